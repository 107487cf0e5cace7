"""N-way K-shot episodes from images that are sorted into classes."""

from numbers import Integral

import numpy as np

from ..errors import UserError
from .episode import Batch, Task


class ImageEpisodes:
    """Draws classification tasks: n_way classes, k_shot support and n_query query images of each.

    The classes of an episode differ from each other, and so do the images of a class in support
    and query. Labels are a fresh random permutation in every episode and the examples come in
    random order, so that neither says anything about the class.

    Parameters
    ----------
    images : uint8 array (classes, images, h, w, c), or a list of uint8 arrays (images, h, w, c)
        The images of each class; in a list the classes may have unequal counts.
    n_way, k_shot, n_query : int
        Classes in an episode; support and query images of each class.
    rotate : bool
        Turn each class of an episode by 0, 90, 180 or 270 degrees, one draw for all its images
        in that episode, support and query alike.

    Raises
    ------
    UserError
        If the images cannot fill such an episode; the sentence says which number is at fault.

    References
    ----------
    Vinyals et al. (2016), Matching Networks, section 4.1 (episodes); Santoro et al. (2016),
    section 4.1 (rotations). One rotation per class and episode is Finn et al.'s choice; it also
    means that no character meets itself at another angle.

    Examples
    --------
    >>> images = np.zeros((10, 20, 28, 28, 1), np.uint8)
    >>> episodes = ImageEpisodes(images, n_way=5, k_shot=1, n_query=3)
    >>> tasks = episodes.sample(np.random.default_rng(0), n_tasks=32)
    >>> tasks.support.x.shape, tasks.query.y.shape
    ((32, 5, 28, 28, 1), (32, 15))
    >>> np.sort(tasks.support.y[0])
    array([0, 1, 2, 3, 4])
    """

    def __init__(self, images, n_way, k_shot, n_query, rotate=False):
        if not isinstance(images, np.ndarray):
            images = [np.asarray(class_images) for class_images in images]
        _check_images(images, rotate)
        counts = np.array([len(class_images) for class_images in images])
        _check_sizes(counts, n_way, k_shot, n_query)
        self.images, self.counts = images, counts
        self.n_way, self.k_shot, self.n_query, self.rotate = n_way, k_shot, n_query, rotate

    def sample(self, rng, n_tasks):
        """Draw episodes.

        Parameters
        ----------
        rng : numpy.random.Generator
            The only source of chance: an equal generator draws equal episodes.
        n_tasks : int

        Returns
        -------
        Task
            x float32 (n_tasks, n_way * k, h, w, c) in [0, 1] and y int64 (n_tasks, n_way * k)
            in 0..n_way-1, with k = k_shot in the support and n_query in the query batch.
        """
        populations = np.full(n_tasks, len(self.counts))
        # In random order: the position of a class is its label.
        classes = _distinct(rng, populations, self.n_way)
        picks = _distinct(rng, self.counts[classes].ravel(), self.k_shot + self.n_query)
        picks = picks.reshape(n_tasks, self.n_way, -1)
        turns = rng.integers(0, 4, classes.shape) if self.rotate else np.zeros_like(classes)
        support = self._batch(rng, classes, picks[..., : self.k_shot], turns)
        query = self._batch(rng, classes, picks[..., self.k_shot :], turns)
        return Task(support, query)

    def _batch(self, rng, classes, picks, turns):
        n_tasks, n_way, k = picks.shape
        in_order = np.broadcast_to(np.arange(n_way * k), (n_tasks, n_way * k))
        order = rng.permuted(in_order, axis=1)
        labels = order // k
        task = np.arange(n_tasks)[:, None]
        x = self._gather(classes[task, labels], picks[task, labels, order % k])
        turns = turns[task, labels]
        for quarter in (1, 2, 3) if self.rotate else ():
            chosen = turns == quarter
            x[chosen] = np.rot90(x[chosen], quarter, axes=(1, 2))
        return Batch(np.divide(x, np.float32(255), dtype=np.float32), labels)

    def _gather(self, classes, picks):
        if isinstance(self.images, np.ndarray):
            return self.images[classes, picks]
        x = np.stack([self.images[i][j] for i, j in zip(classes.flat, picks.flat)])
        return x.reshape(classes.shape + x.shape[1:])


def _distinct(rng, populations, k):
    """Row r: k distinct numbers below populations[r], in random order, all outcomes equal.

    Floyd's sampling, all rows at once: its cost grows with k and not with the populations
    (Bentley and Floyd 1987, Programming Pearls: a sample of brilliance).
    """
    chosen = np.empty((len(populations), k), np.int64)
    for i in range(k):
        last = populations - k + i
        candidate = rng.integers(0, last, endpoint=True)
        taken = (chosen[:, :i] == candidate[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, last, candidate)
    return rng.permuted(chosen, axis=1)


def _check_images(images, rotate):
    shapes = sorted({class_images.shape[1:] for class_images in images})
    if len(shapes) > 1:
        raise UserError(f"images of all classes must have one shape; got {shapes[0]}, {shapes[1]}")
    if not shapes or len(shapes[0]) != 3:
        found = f"class 0 has shape {images[0].shape}" if shapes else "there are no classes"
        raise UserError(f"each class must be an array (images, h, w, c); {found}")
    dtypes = {class_images.dtype for class_images in images} - {np.dtype(np.uint8)}
    if dtypes:
        raise UserError(f"images must be uint8, 0..255; got {dtypes.pop()}")
    height, width, _ = shapes[0]
    if rotate and height != width:
        raise UserError(f"rotate needs square images; these are {height}x{width}")


def _check_sizes(counts, n_way, k_shot, n_query):
    for name, size, least in (("n_way", n_way, 2), ("k_shot", k_shot, 1), ("n_query", n_query, 1)):
        if not isinstance(size, Integral) or size < least:
            raise UserError(f"{name} is {size!r}; an episode needs at least {least}")
    if n_way > len(counts):
        raise UserError(f"{n_way}-way episodes need {n_way} classes, but there are {len(counts)}")
    scarce = int(np.argmin(counts))
    if k_shot + n_query > counts[scarce]:
        raise UserError(
            f"{k_shot}-shot with {n_query} query images takes {k_shot + n_query} different images "
            f"of a class, but class {scarce} has {counts[scarce]}; lower k_shot or n_query"
        )
