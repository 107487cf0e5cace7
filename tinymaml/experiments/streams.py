"""Few-shot classification on streams, where the label of an image is told one step late."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..learners import Learner
from ..tasks import Streams
from ..tasks.streams import earlier_views
from . import paper
from .classification import Omniglot
from .problem import Trial
from .schedule import check, option

EPISODES = ", episodes"  # after the method's name


@dataclass(frozen=True)
class OnStreams(Learner):
    """A learner with a memory, which is asked at each step of a stream."""

    learner: Any

    def predict(self, params, support, x):
        return self.learner.stream(params, *support)


@dataclass(frozen=True)
class OmniglotStreams(Omniglot):
    """Streams of characters, scored by how many images of the class came before.

    The learner is also tested on the episodes of the other learners, with 1 and 5 shots.
    """

    views: int = option(10, "images of each class in a stream")
    k_shot: int = 1
    n_query: int = 0
    test_query: int = 0
    rounds: bool = False  # each class is shown once before any is shown twice
    of_the_table: tuple = (1, 4)  # earlier views of its 1-shot and of its 5-shot number

    axis = "earlier views"
    chunk = None
    test_chunk = 20
    block = 100

    def __post_init__(self):
        super().__post_init__()
        check(self, "views", least=2, most=20, what="2 or more")

    @property
    def curve_label(self) -> str:
        """The setting without shots: a curve is of all of them."""
        return f"{self.n_way}-way"

    def tasks(self, split: str) -> Streams:
        """Return the streams of a split."""
        n_way = (split == "train" and self.train_way) or self.n_way
        images = self.images.splits[split]
        return Streams(images, n_way, self.views, self.rotates(split), self.rounds)

    def images_needed(self, split: str) -> str:
        return f"--views {self.views}"

    def score(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the share of right answers by the number of earlier views: (n, views)."""
        order = np.argsort(earlier_views(y), axis=-1, kind="stable")
        right = np.take_along_axis(self.right(logits, y), order, -1)
        return right.reshape(len(y), -1, self.n_way).mean(-1)

    def trials(self, method, params: dict) -> Iterator[Trial]:
        """Yield the tests: streams, and the episodes of the other learners."""
        learner, label = method.learner(self), method.label(self)
        curve = OnStreams(learner), params, self, label, range(self.views)
        for k_shot, row in zip((1, 5), self.of_the_table):
            trial = Trial(*curve, rows=[row] if row < self.views else [], curve=k_shot == 1)
            yield trial._replace(problem=self.replace(k_shot=k_shot))
        shared = {name: getattr(self, name) for name in ("n_way", "split", "resize", "images")}
        for k_shot in (1, 5):
            for episodes in Omniglot(k_shot=k_shot, **shared).tested(method):
                yield Trial(learner, params, episodes, label + EPISODES)

    def paper_values(self, method) -> dict:
        """Return the paper's accuracies by the number of earlier views."""
        label, printed = method.label(self), {}
        for k_shot, row in zip((1, 5), self.of_the_table):
            if value := paper.value(self.data, label, f"{self.n_way}-way {k_shot}-shot"):
                printed[row] = value[0]
        if self.data == "Omniglot" and self.n_way == 5:
            printed |= paper.BY_VIEW.get(method.name, {})
        return {self.curve_label: {row: value / 100 for row, value in printed.items()}}

    def protocol(self, trials: list, rows: list, n_tasks: int, seed: int) -> str:
        """Return the sentence that says how it was tested."""
        order = "each class once before any twice, and so on" if self.rounds else "in random order"
        one, five = self.of_the_table
        keys = ("mean", "ci95", "diverged", "setting")
        scores = [[row[key] for key in keys] for row in rows if row["method"].endswith(EPISODES)]
        episodes = " and ".join(f"{self.result(*score)} ({setting})" for *score, setting in scores)
        return (
            f"accuracy +- 95 % CI over {n_tasks} streams, seed {seed}; a stream has {self.views} "
            f"images of each of {self.n_way} classes, {order}, and the label of each is told one "
            f"step late; 1-shot is after {one} earlier view of the class, 5-shot after {five}; "
            f"in episodes, of which each query image is asked by itself, {episodes}; "
            f"{self.data_sentence()}"
        )
