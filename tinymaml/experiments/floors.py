"""Floors: what a score must stand above to say that something has been learned."""

from collections.abc import Iterator, Sequence

from .. import learners, nn
from .classification import QUERY, Classification
from .problem import Trial
from .schedule import Schedule

TASKS = 100  # of their tests: a floor needs no more


def floors(trials: Sequence[Trial], method, schedule: Schedule) -> Iterator[Trial]:
    """Yield the tests of the floors, for each setting of a classification that is tested.

    They are the nearest neighbour by cosine of the pixels, the learner before its training, and
    the trained one where the labels of each support are shuffled, which leaves it chance.

    Parameters
    ----------
    trials : sequence of Trial
        The parts of the test.
    method : Method
    schedule : Schedule
    """
    tested = {trial.problem.setting: trial for trial in trials}
    for trial in tested.values() if method.group != "baselines" else ():
        problem, last = trial.problem, [method.test_steps]
        if not isinstance(problem, Classification):
            continue
        pixels = learners.NearestNeighbour(PixelMeans(), problem.n_way)
        yield Trial(pixels, {}, problem, "Nearest neighbour, raw pixels", floor="pixels")
        learner = method.learner(problem)
        start = learner.init(schedule.rng("weights"))
        for floor, params in (("untrained", start), ("shuffled labels", trial.params)):
            name = f"{trial.method}, {floor}"
            yield Trial(learner, params, problem, name, last, last, QUERY, floor=floor)


class PixelMeans(nn.Layer):
    """Images as vectors of fewer pixels, the means of blocks: (n, h, w, c) -> (n, d).

    A side of 84 pixels becomes 21.
    """

    def __call__(self, params, x):
        *lead, size, _, c = x.shape
        block = max(1, size // 21)
        side = size // block
        x = x[..., : side * block, : side * block, :]
        x = x.reshape(*lead, side, block, side, block, c).mean((-4, -2))
        return x.reshape(*lead, side * side * c)
