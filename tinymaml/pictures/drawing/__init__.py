"""Pictures of computation graphs: what is in them, where it goes, how it looks."""

from .picture import Drawing, draw

__all__ = ["Drawing", "draw"]
