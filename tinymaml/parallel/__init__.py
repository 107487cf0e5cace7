"""Work on many cores."""
