"""Episodes: where tasks come from."""

from .episode import Batch, Task

__all__ = ["Batch", "Task"]
