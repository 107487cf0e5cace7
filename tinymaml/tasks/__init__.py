"""Episodes: where tasks come from."""

from .episode import Batch, Prepared, Task
from .images import ImageEpisodes, read_images
from .sinusoid import SinusoidTasks

__all__ = ["Batch", "ImageEpisodes", "Prepared", "SinusoidTasks", "Task", "read_images"]
