"""Few-shot classification of images: what Omniglot and MiniImageNet share."""

from dataclasses import dataclass

import numpy as np

from .. import nn
from ..engine.tensor import raw
from ..errors import UserError
from ..tasks.images import ImageEpisodes
from . import paper
from .evaluation import score_tasks, summarise
from .experiment import STEPS, Experiment, flag

#: Whose statistics batch norm takes when the query is scored: the paper's protocol, in which the
#: query examples of a task see each other, and the inductive one, in which they do not
QUERY, SUPPORT = "query batch", "support batch"
CURVE = ("mean", "ci95", "diverged")


@dataclass(frozen=True)
class Classification(Experiment):
    """N-way K-shot classification, cross-entropy.

    alpha is meant as in the authors' code, whose inner loss sums over the classes: on the mean over
    examples, which we use, the step is n_way * alpha. Gamma and beta of batch norm are meta-learned
    but not adapted. The authors' batch norm has no gamma, and its epsilon is 1e-3 where ours is
    1e-5.
    """

    n_way: int = 5
    n_query: int = 0
    test_steps: int = 3
    test_query: int = 0

    needs_data = True
    metric = "accuracy"

    def __post_init__(self):
        super().__post_init__()
        if self.n_way < 2:
            raise UserError(f"--n-way is {self.n_way}; give at least 2 classes")
        for name in ("n_query", "test_query"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"{flag(name)} is {getattr(self, name)}; give 1 or more, or 0 for as many as "
                    "shots"
                )
        if not 1 <= self.test_steps <= 100:
            raise UserError(f"--test-steps is {self.test_steps}; give 1 to 100")

    @property
    def setting(self):
        """The task, as the paper's tables name it."""
        return f"{self.n_way}-way {self.k_shot}-shot"

    @property
    def task(self):
        """What is learned from, in words."""
        return f"{self.data}, {self.setting}"

    def printed(self):
        """Return the paper's result as text."""
        value = paper.value(self.data, self.method, self.setting)
        return " +- ".join(f"{number:g}" for number in value or () if number) + " %" * bool(value)

    def queries(self, split):
        """Return the number of query images of each class."""
        return (self.n_query if split == "train" else self.test_query) or self.k_shot

    def loss(self, params, x, y):
        return nn.cross_entropy(self.model(params, x), y)

    def rates(self, params):
        """The authors' sum over the classes; batch norm's parameters stay."""
        return {
            name: 0 if name.endswith(("gamma", "beta")) else self.n_way * self.inner_lr
            for name in params
        }

    def hold(self, images, title=None):
        """Keep images without a look at them; see `keep`."""
        # the dataclass is frozen so that its options are; the images are no option
        object.__setattr__(self, "_images", images)
        if title:
            object.__setattr__(self, "data", title)

    def keep(self, images, title=None):
        """Keep the images of each split: dict of arrays or lists of arrays, as ImageEpisodes.

        ``title`` is of the tables, if the images are not those that the experiment is named for.
        UserError if they cannot fill the episodes of these settings.
        """
        self.hold(images, title)
        for split in images:
            try:
                self.tasks(split)
            except UserError as error:
                queries = "n_query" if split == "train" else "test_query"
                raise UserError(
                    f"the {split!r} classes do not suffice for --k-shot {self.k_shot} and "
                    f"{flag(queries)} {self.queries(split)}: {error}"
                ) from None

    def tasks(self, split):
        """Return the episodes of a split: "train", "val" or "test"."""
        return ImageEpisodes(
            self._images[split], self.n_way, self.k_shot, self.queries(split), self.turned(split)
        )

    def turned(self, split):
        """Return whether the classes of an episode are turned by multiples of 90 degrees."""
        return False

    def score(self, params, support, query):
        """Return the share of right answers in each task; no number where the network has none."""
        logits = raw(self.model(params, query.x))
        right = (logits.argmax(-1) == raw(query.y)).mean(-1)
        return np.where(np.isfinite(logits).all((-2, -1)), right, np.nan)

    def inductive_score(self, params, support, query):
        """Return the same with batch norm by the statistics of the support alone."""
        return self.score(params | self.model.statistics(params, support.x), support, query)

    def test(self, params, n_tasks):
        """Return the test results, on classes that training has not seen."""
        steps, last = range(max(STEPS, self.test_steps) + 1), self.test_steps
        wanted = (self.score, steps), (self.inductive_score, [last])
        scores = score_tasks(self, params, self.blocks("test", n_tasks), *wanted)
        transductive, inductive = map(summarise, scores)
        rows = [
            self.row(self.setting, transductive, last, last, batch_norm=QUERY),
            self.row(self.setting, inductive, last, batch_norm=SUPPORT),
        ]
        printed = paper.value(self.data, self.method, self.setting)
        return {
            "protocol": f"accuracy +- 95 % CI over {n_tasks} tasks, seed {self.seed}; "
            f"{self.setting}, {self.queries('test')} query/class; batch norm: {QUERY} (by the "
            f"{SUPPORT} alone: {self.result(*[inductive[key][0] for key in CURVE])} after "
            f"{last} step{'s' * (last != 1)}); {self.data_sentence()}",
            "metric": self.metric,
            "curves": {self.setting: transductive},
            "paper": {self.setting: {paper.steps(self.data, self.setting): printed[0] / 100}}
            if printed
            else {},
            "rows": rows,
        }

    def number(self, mean, half=None):
        """Return a score as text."""
        return f"{100 * mean:.1f}" + (f" +- {100 * half:.1f} %" if half is not None else " %")
