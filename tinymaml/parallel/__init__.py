"""Work on many cores, processes and machines: one door, :func:`~.group.map_chunks`."""
