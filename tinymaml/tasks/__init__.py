"""Episodes: where tasks come from."""

from .episode import Batch, Task
from .image_files import read_images
from .images import ImageEpisodes
from .sinusoid import SinusoidTasks

__all__ = ["Batch", "ImageEpisodes", "SinusoidTasks", "Task", "read_images"]
