"""Streams of images, of whose classes one learns the label of each image one step late."""

from collections.abc import Sequence
from numbers import Integral

import numpy as np

from ..errors import UserError
from .episode import Batch, Task
from .images import ImageEpisodes


class Streams:
    """Draws streams: the images of a few classes in random order, told apart by late labels.

    The classes of a stream and their labels are drawn anew for every stream. The label of an image
    is told with the next image: what is said of an image can rest on the labels of those before it
    alone.

    Parameters
    ----------
    images : uint8 array (classes, images, h, w, c), or a list of uint8 arrays (images, h, w, c)
        As :class:`ImageEpisodes` takes them.
    n_way, views : int
        Classes of a stream, and images of each: a stream has n_way * views steps.
    rotate : bool
        Turn each class of a stream by 0, 90, 180 or 270 degrees.
    rounds : bool
        Show each class once before any is shown twice, and so on. By default all orders are equally
        likely.

    Raises
    ------
    UserError
        If the images cannot fill such a stream; the sentence names the wrong number.

    References
    ----------
    Santoro et al. (2016), One-shot Learning with Memory-Augmented Neural Networks; ``rounds``:
    Kaiser et al. (2017), Learning to Remember Rare Events.

    Examples
    --------
    >>> images = np.zeros((10, 20, 28, 28, 1), np.uint8)
    >>> stream = Streams(images, n_way=5, views=10).sample(np.random.default_rng(0), n_tasks=16)
    >>> stream.query.x.shape, stream.query.y.shape
    ((16, 50, 28, 28, 1), (16, 50))
    >>> np.array_equal(stream.support.y[:, 1:], stream.query.y[:, :-1])
    True
    """

    def __init__(
        self,
        images: Sequence,
        n_way: int = 5,
        views: int = 10,
        rotate: bool = False,
        rounds: bool = False,
    ):
        if not isinstance(views, Integral) or views < 2:
            raise UserError(f"views is {views!r}; a stream needs at least 2 images of each class")
        self.episodes = ImageEpisodes(images, n_way, 1, views - 1, rotate)
        self.rounds = rounds

    def sample(self, rng: np.random.Generator, n_tasks: int) -> Task:
        """Draw streams.

        Parameters
        ----------
        rng : numpy.random.Generator
            Equal generators draw equal streams.
        n_tasks : int

        Returns
        -------
        Task
            As query the stream, x float32 (n_tasks, n_way * views, h, w, c) and y its labels; as
            support what is seen at each step: the same x, and y of the step before, ``late``.
        """
        x, y = (np.concatenate(parts, 1) for parts in zip(*self.episodes.sample(rng, n_tasks)))
        order = rng.random(y.shape) + (earlier_views(y) if self.rounds else 0)
        task, order = np.arange(n_tasks)[:, None], order.argsort(1)
        x, y = x[task, order], y[task, order]
        return Task(Batch(x, late(y)), Batch(x, y))


def late(y: np.ndarray) -> np.ndarray:
    """Return the label of the step before, and -1 at the first step: (..., t) -> (..., t).

    Examples
    --------
    >>> late(np.array([3, 0, 3]))
    array([-1,  3,  0])
    """
    return np.concatenate([np.full_like(y[..., :1], -1), y[..., :-1]], axis=-1)


def earlier_views(y: np.ndarray) -> np.ndarray:
    """Return how often the label of each step has been there before: (..., t) -> (..., t).

    Examples
    --------
    >>> earlier_views(np.array([3, 0, 3, 3]))
    array([0, 0, 1, 2])
    """
    same = y[..., :, None] == y[..., None, :]
    return np.tril(same, -1).sum(-1)
