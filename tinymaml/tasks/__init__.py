"""Episodes: where tasks come from."""

from .distortions import distort
from .episode import Batch, Prepared, Task
from .images import ImageEpisodes, read_images
from .sinusoid import SinusoidTasks
from .streams import Streams

__all__ = [
    "Batch",
    "ImageEpisodes",
    "Prepared",
    "SinusoidTasks",
    "Streams",
    "Task",
    "distort",
    "read_images",
]
