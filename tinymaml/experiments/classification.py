"""Few-shot classification of images: Omniglot and MiniImageNet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from .. import nn
from ..errors import UserError
from ..tasks import Batch, ImageEpisodes, Task
from . import paper
from .problem import Problem, Trial
from .schedule import check, choose, flag, option

STEPS = 10  # of the curves at test: the authors' code always takes ten
#: Whose statistics batch norm takes when the query is scored: in the paper's protocol the query
#: examples of a task see each other, in the inductive one they do not
QUERY, SUPPORT = "query batch", "support batch"
KINDS = {
    "random": "1100 characters to train, 100 to validate, 423 to test, irrespective of alphabet",
    "vinyals": "the split files of Vinyals et al., whose classes are characters at fixed angles",
    "lake": "background alphabets to train, 5 of them held out to validate, evaluation alphabets "
    "to test",
}


class Images(NamedTuple):
    """Images of every split: a dict of lists with an array for each class, and their title."""

    splits: dict[str, Any]
    title: str | None = None


@dataclass(frozen=True)
class Classification(Problem):
    """N-way K-shot classification, cross-entropy.

    alpha is that of the authors' code, whose inner loss sums over the classes. Our loss is the mean
    over examples, so the inner rate is n_way * alpha. Gamma and beta of batch norm are meta-learned
    but not adapted. The authors' batch norm has no gamma, and its epsilon is 1e-3 where ours is
    1e-5.
    """

    n_way: int = option(5, "classes of a task")
    k_shot: int = option(1, "support examples of each class")
    n_query: int = option(0, "query images of a class in training; 0: as many as shots")
    test_query: int = option(0, "query images of a class at validation, test; 0: as many as shots")
    train_way: int = option(0, "classes of a task in training; 0: as many as at test")
    images: Images | None = field(default=None, repr=False, compare=False)

    needs_data = True
    metric = "accuracy"

    def __post_init__(self):
        check(self, "k_shot", least=1, what="1 or more")
        check(self, "n_way", least=2, what="at least 2 classes")
        check(self, "n_query", "test_query", least=0, what="1 or more, or 0 for as many as shots")
        if self.train_way:
            check(self, "train_way", least=2, what="at least 2 classes, or 0 for --n-way's")

    @property
    def setting(self) -> str:
        """Classes and shots, as the paper's tables name them."""
        return f"{self.n_way}-way {self.k_shot}-shot"

    @property
    def task(self) -> str:
        """The data and the setting."""
        return f"{self.data}, {self.setting}"

    @property
    def mean_scale(self) -> float:
        """The authors' loss, a sum over the query divided by K, in units of ours, the mean."""
        return self.n_way * self.queries("train") / self.k_shot

    loss = staticmethod(nn.cross_entropy)

    @cached_property
    def body(self) -> nn.Layer:
        """The network of learners that compare images: with max-pooling, and no last layer."""
        return nn.Sequential(*self.network(2).layers[:-1])

    @property
    def features(self) -> int:
        """Size of the vectors that ``body`` makes."""
        return self.network(2).layers[-1].inputs

    @cached_property
    def tied_model(self) -> nn.Layer:
        """The flat network, with one output vector for all classes and no bias."""
        *layers, last = self.flat_model.layers
        return nn.Sequential(*layers, nn.Linear(last.inputs, 1, last.weight_init, bias=False))

    def rates(self, alpha: float) -> dict[str, float]:
        """Return the inner rates: n_way * alpha, and 0 for the parameters of batch norm."""
        return {
            name: 0 if name.endswith(("gamma", "beta")) else self.n_way * alpha
            for name in self.model.names
        }

    @staticmethod
    def right(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return which answers are right: (n, k, classes), (n, k) -> (n, k).

        Where m classes share the largest logit and the right one is among them, the answer counts
        1 / m: what a random choice of them gets in the mean. A task with a logit that is not finite
        has NaN.
        """
        best = logits == logits.max(-1, keepdims=True)
        right = np.take_along_axis(best, y[..., None], -1)[..., 0] / np.maximum(best.sum(-1), 1)
        return np.where(np.isfinite(logits).all((-2, -1))[..., None], right, np.nan)

    def score(self, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the share of right answers in each task; NaN if a logit is not finite."""
        return self.right(logits, y).mean(-1)

    def queries(self, split: str) -> int:
        """Return the number of query images of each class."""
        return (self.n_query if split == "train" else self.test_query) or self.k_shot

    def tasks(self, split: str) -> ImageEpisodes:
        """Return the episodes of a split: "train", "val" or "test"."""
        n_way = (split == "train" and self.train_way) or self.n_way
        images = self.images.splits[split]
        return ImageEpisodes(images, n_way, self.k_shot, self.queries(split), self.rotates(split))

    def rotates(self, split: str) -> bool:
        """Return whether the classes of an episode are turned by multiples of 90 degrees."""
        return False

    def with_images(self, splits: dict, title: str | None = None) -> "Classification":
        """Return the problem with these images.

        Parameters
        ----------
        splits : dict of str to list of uint8 arrays (images, h, w, c)
            As :class:`tinymaml.tasks.ImageEpisodes` takes them.
        title : str, optional
            Of the tables, for images other than those that the problem is named for.

        Raises
        ------
        UserError
            If they cannot fill the episodes of these settings.
        """
        found = self.replace(images=Images(splits, title))
        for split in splits:
            try:
                found.tasks(split)
            except UserError as error:
                needed = self.images_needed(split)
                raise UserError(
                    f"the {split!r} classes do not suffice for {needed}: {error}"
                ) from None
        return found

    def images_needed(self, split: str) -> str:
        """Return the options that say how many images of a class a task has."""
        queries = flag("n_query" if split == "train" else "test_query")
        return f"--k-shot {self.k_shot} and {queries} {self.queries(split)}"

    def printed(self, method: str) -> str:
        """Return the paper's result as text."""
        value = paper.value(self.data, method, self.setting)
        return " +- ".join(f"{number:g}" for number in value or () if number) + " %" * bool(value)

    def trials(self, method, params: dict) -> Iterator[Trial]:
        """Yield the tests, on classes that training has not seen: transductive, then inductive."""
        last = method.test_steps
        steps = range(max(STEPS, last) + 1) if last else (0,)
        for problem in self.tested(method):
            common = (params, problem, method.label(self))
            yield Trial(method.learner(problem), *common, steps, [last], QUERY, curve=True)
            yield Trial(method.learner(problem, True), *common, [last], [last], SUPPORT)

    def tested(self, method) -> list["Classification"]:
        """Return the problem with all numbers of shots and classes that a method is tested with.

        They are its own, and those of the method for which there are enough images.
        """
        test = self.images.splits["test"]
        fewest = min(map(len, test), default=0)
        ways = {self.n_way, *(n for n in method.ways if n <= len(test))}
        shots = {k for k in method.shots if k + (self.test_query or k) <= fewest}
        shots = {k: {} if k == self.k_shot else {"n_query": 0} for k in (self.k_shot, *shots)}
        each = product(sorted(shots), sorted(ways))
        return [self.replace(k_shot=k, n_way=n, **shots[k]) for k, n in each]

    def paper_values(self, method) -> dict:
        """Return the paper's numbers by setting and steps."""
        label, found = method.label(self), {}
        for setting in (problem.setting for problem in self.tested(method)):
            if printed := paper.value(self.data, label, setting):
                of_the_table = label in paper.TABLES.get(self.data, {}) and "MAML" in label
                at = paper.steps(self.data, setting) if of_the_table else method.test_steps
                found[setting] = {at: printed[0] / 100}
        return found

    def protocol(self, trials: list, rows: list, n_tasks: int, seed: int) -> str:
        """Return the sentence that says how it was tested."""
        inductive = [row for row in rows if row["batch_norm"] == SUPPORT]
        last = inductive[-1]["steps"]
        scores = [self.result(row["mean"], row["ci95"], row["diverged"]) for row in inductive]
        after = f" after {last} step{'s' * (last != 1)}" if last else ""
        more = f"; trained with {self.train_way} classes an episode" if self.train_way else ""
        several = len({trial.problem.k_shot for trial in trials}) > 1
        queries = self.test_query or ("as many as shots" if several else self.k_shot)
        return (
            f"accuracy +- 95 % CI over {n_tasks} tasks, seed {seed}; "
            f"{' and '.join(row['setting'] for row in inductive)}, "
            f"{queries} query/class{more}; batch norm: {QUERY} (by the {SUPPORT} "
            f"alone: {' and '.join(scores)}{after}); {self.data_sentence()}"
        )

    def number(self, mean: float, half: float | None = None) -> str:
        """Return a score as text."""
        return f"{100 * mean:.1f}" + (f" +- {100 * half:.1f} %" if half is not None else " %")


@dataclass(frozen=True)
class Omniglot(Classification):
    """Few-shot classification of characters (Finn et al. 2017, section 5.2): four convolutions."""

    split: str = option("random", "split of the characters: random, vinyals or lake")
    resize: str = option("nearest", "how the drawings are resized: nearest or lanczos")
    image_size: int = option(28, "width and height of the images, 28 or 105 as they are drawn")

    block = 192

    def __post_init__(self):
        super().__post_init__()
        choose(self, "split", *KINDS)
        choose(self, "resize", "nearest", "lanczos")
        choose(self, "image_size", 28, 105)
        for split, name in (("train", "--n-query"), ("test", "--test-query")):
            if self.k_shot + self.queries(split) > 20:
                raise UserError(
                    f"--k-shot {self.k_shot} and {name} {self.queries(split)} take more than "
                    "the 20 drawings that a character has; lower them"
                )

    @property
    def data(self) -> str:
        """Title of the tables; the paper's are of the random split alone."""
        return "Omniglot" if self.split == "random" else f"Omniglot, {self.split} split"

    @property
    def chunk(self) -> int:
        """Tasks taken at once, a power of two: about 200 images fit the caches best.

        At most 8: 16 small tasks are 5 % faster on one core, but leave work for two processes only.
        """
        images = (self.train_way or self.n_way) * (self.k_shot + self.queries("train"))
        fit = max(1, 200 // images)
        return min(8, 1 << fit.bit_length() - 1)

    @property
    def test_chunk(self) -> int:
        """More, since no graph is kept; four chunks of 8 * 6 tasks make a block."""
        return 6 * self.chunk

    @cached_property
    def model(self) -> nn.Layer:
        return nn.conv4(self.n_way)

    def network(self, classes: int) -> nn.Sequential:
        """Return the network with max-pooling, and a last layer of some classes."""
        return nn.conv4(classes, downsample="pool", image_size=self.image_size)

    @cached_property
    def flat_model(self):
        """The network, whose last layer sees all 2 x 2 positions in place of their mean."""
        layers, side = self.model.layers[:-2], -(-self.image_size // 16)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(side * side * 64, self.n_way))

    def download(self, data: str | None = None) -> str:
        """Download the characters to a folder, and return its path."""
        from ..tasks import omniglot

        data = data or "data/omniglot"
        omniglot.download(data)
        return data

    def load(self, data: str | None = None) -> tuple["Omniglot", str]:
        """Return the problem with the characters of a folder, and the folder's path.

        UserError if it does not hold what is needed.
        """
        from ..tasks import omniglot

        images = omniglot.load(data, self.resize, self.image_size)
        splits = omniglot.splits(images, self.split, data)
        return self.with_images(splits), str(omniglot.find(data).resolve())

    def rotates(self, split: str) -> bool:
        """Return whether classes are turned; a split may have characters at fixed angles."""
        return self.split == "random" or (self.split == "lake" and split == "train")

    def data_sentence(self) -> str:
        """Return the part of the protocol that is about the images."""
        turned = "classes turned by multiples of 90 degrees"
        if self.split != "random":
            turned += ", in training only" if self.split == "lake" else " as the files say"
        return f"split: {KINDS[self.split]}; {turned}; resize: {self.resize}"


@dataclass(frozen=True)
class OmniglotMLP(Omniglot):
    """Few-shot classification of characters without convolution: MLP 784-256-128-64-64-N."""

    suffix = ("no conv",)
    chunk = 16
    flat_model = Problem.flat_model

    @cached_property
    def model(self) -> nn.Layer:
        network = nn.mlp((self.image_size**2, 256, 128, 64, 64, self.n_way), batch_norm=True)
        return nn.Sequential(nn.Flatten(), *network.layers)


@dataclass(frozen=True)
class MiniImageNet(Classification):
    """Few-shot classification of photographs (Finn et al. 2017, section 5.2): four convolutions.

    It takes any images in a layout of MiniImageNet, and tables have the title of the images.
    """

    n_query: int = option(15, "query images of a class in training; 0: as many as shots")
    filters: int = option(32, "filters of every convolution")
    image_size: int = option(84, "width and height to which the images are resized")

    chunk = test_chunk = 1
    block = 10

    def __post_init__(self):
        super().__post_init__()
        check(self, "filters", least=1, what="1 or more")
        check(self, "image_size", least=16, most=512, what="16 to 512 pixels")

    @property
    def data(self) -> str:
        """Title of the tables."""
        return (self.images and self.images.title) or "MiniImageNet"

    def network(self, classes: int) -> nn.Sequential:
        """Return the network with a last layer of some classes."""
        return nn.conv4(classes, 3, self.filters, downsample="pool", image_size=self.image_size)

    @cached_property
    def model(self) -> nn.Layer:
        return self.network(self.n_way)

    def load(self, data: str | None = None) -> tuple["MiniImageNet", str]:
        """Return the problem with the images of a folder or zip in any layout, and its path.

        UserError if it does not hold what is needed.
        """
        from ..tasks import miniimagenet

        loaded = miniimagenet.load(data, self.image_size)
        return self.with_images(loaded.images, loaded.title), str(miniimagenet.find(data).resolve())

    def data_sentence(self) -> str:
        """Return the part of the protocol that is about the images."""
        counts = "/".join(str(len(self.images.splits[s])) for s in ("train", "val", "test"))
        size = self.image_size
        return f"images: {self.data}, {size}x{size} pixels, {counts} classes"


class TrainingBatches:
    """Batches of training images, labelled by their class among all training classes.

    A batch is a task without support, for a learner that takes no inner steps.

    Parameters
    ----------
    images : list of uint8 arrays (n, h, w, c)
        Of each class.
    size : int
        Images in a batch.
    """

    def __init__(self, images: list[np.ndarray], size: int):
        self.images, self.size = images, size
        self.ends = np.cumsum([len(class_images) for class_images in images])

    def sample(self, rng: np.random.Generator, n_tasks: int) -> Task:
        """Draw batches: float32 x (n_tasks, size, h, w, c) in [0, 1] and int64 y."""
        picks = rng.integers(0, self.ends[-1], (n_tasks, self.size))
        y = np.searchsorted(self.ends, picks, side="right")
        first = np.concatenate([[0], self.ends])[y]
        x = np.stack([self.images[c][i] for c, i in zip(y.flat, (picks - first).flat)])
        x = np.divide(x.reshape(*y.shape, *x.shape[1:]), np.float32(255), dtype=np.float32)
        return Task(Batch(x[:, :0], y[:, :0]), Batch(x, y))


@dataclass(frozen=True)
class AllClasses(MiniImageNet):
    """Classification of photographs into all training classes at once, tested with 1 and 5 shots.

    The baselines of Ravi & Larochelle 2017 are pretrained on it. In training, batch norm takes the
    statistics of batches of 16 images.
    """

    k_shot: int = 1
    n_query: int = 15
    train_way: int = 0
    test_query: int = option(15, "query images of a class at validation and test")
    filters: int = option(64, "filters of every convolution")

    batch = 16  # images of a training batch

    @property
    def task(self):
        return f"{self.data}, {self.n_way}-way 1-shot and 5-shot"

    @cached_property
    def model(self) -> nn.Layer:
        return self.network(len(self.images.splits["train"]))

    def tasks(self, split):
        if split == "train":
            return TrainingBatches(self.images.splits["train"], self.batch)
        return super().tasks(split)

    def with_images(self, splits, title=None):
        for k_shot in (5, 1):
            found = MiniImageNet.with_images(self.replace(k_shot=k_shot), splits, title)
        return found

    def printed(self, method):
        values = [
            paper.value(self.data, name, f"{self.n_way}-way {k}-shot")
            for name in ("Fine-tuning", "Nearest neighbour")
            for k in (1, 5)
        ]
        return " / ".join(f"{value[0]:g}" for value in values if value) + " %" * all(values)
