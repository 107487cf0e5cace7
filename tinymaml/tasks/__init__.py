"""Episodes: where tasks come from."""

from .episode import Batch, Task
from .images import ImageEpisodes, read_images
from .sinusoid import SinusoidTasks

__all__ = ["Batch", "ImageEpisodes", "SinusoidTasks", "Task", "read_images"]
