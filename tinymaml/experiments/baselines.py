"""The baselines of MiniImageNet that share a network pretrained on all training classes."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from .. import nn
from ..engine.backend import asarray
from ..engine.tensor import no_grad, raw
from ..tasks import Batch, Task
from . import paper
from .classification import QUERY, SUPPORT
from .evaluation import score_tasks, summarise
from .miniimagenet import MiniImageNet


class TrainingBatches:
    """Batches of training images, labelled by their class among all training classes.

    They come as tasks without support, so that training without inner steps takes them as it is.

    Parameters
    ----------
    images : list of uint8 arrays (n, h, w, c)
        Of each class.
    size : int
        Images in a batch.
    """

    def __init__(self, images, size):
        self.images, self.size = images, size
        self.ends = np.cumsum([len(class_images) for class_images in images])

    def sample(self, rng, n_tasks):
        """Draw batches: float32 x (n_tasks, size, h, w, c) in [0, 1] and int64 y."""
        picks = rng.integers(0, self.ends[-1], (n_tasks, self.size))
        y = np.searchsorted(self.ends, picks, side="right")
        first = np.concatenate([[0], self.ends])[y]
        x = np.stack([self.images[c][i] for c, i in zip(y.flat, (picks - first).flat)])
        x = np.divide(x.reshape(*y.shape, *x.shape[1:]), np.float32(255), dtype=np.float32)
        return Task(Batch(x[:, :0], y[:, :0]), Batch(x, y))


@dataclass(frozen=True)
class FineTuning(MiniImageNet):
    """The pretrained network with a fresh last layer, of which everything is fine-tuned."""

    method = "Fine-tuning"

    def rates(self, params):
        """Every parameter moves, by the mean loss."""
        return self.inner_lr


@dataclass(frozen=True)
class MiniImageNetPretrained(MiniImageNet):
    """A classifier of all training classes, then fine-tuned, or with nearest neighbours.

    The baselines of Ravi & Larochelle 2017. At test a fresh last layer is put on the network, one
    draw for all tasks, and everything is fine-tuned by 15 steps of gradient descent on the support,
    with the step size that is best on validation tasks (they try more of them, and decay too); or
    each query image gets the label of the support image whose features are nearest by cosine.
    Nearest class means of the pixels are the floor for both. In training, batches of 16 images are
    normalised each by itself.
    """

    steps: int = 30_000
    meta_batch: int = 4
    inner_steps: int = 0
    test_steps: int = 15
    test_query: int = 15
    filters: int = 64
    clip: float = 0.0

    fixed = ("first_order", "inner_lr", "inner_steps", "k_shot", "n_query", "clip", "meta_batch")
    method = "Baselines"
    log_every, validate_every, checkpoint_every = 20, 500, 100
    images = 16  # of a training batch
    known_images = 64  # whose statistics batch norm takes where nothing is fine-tuned
    rates_tried = (0.5, 0.1, 0.01, 0.001)
    tuning_tasks = 30

    @property
    def task(self):
        """What is learned from, in words."""
        return f"{self.data}, {self.n_way}-way 1-shot and 5-shot"

    def printed(self):
        """Return the paper's results as text: fine-tuning, then nearest neighbour."""
        values = [
            paper.value(self.data, method, f"{self.n_way}-way {k}-shot")
            for method in ("Fine-tuning", "Nearest neighbour")
            for k in (1, 5)
        ]
        return " / ".join(f"{value[0]:g}" for value in values if value) + " %" * all(values)

    def keep(self, images, title=None):
        """Keep the images, as the other experiments do, if they suffice for one and five shots."""
        self.hold(images, title)
        for k_shot in (1, 5):
            self._fine_tuning(k_shot=k_shot)

    @cached_property
    def model(self):
        return nn.conv4(
            len(self._images["train"]),
            channels=3,
            filters=self.filters,
            downsample="pool",
            image_size=self.image_size,
        )

    def training_tasks(self, step):
        """Return the batches of a training step."""
        batches = TrainingBatches(self._images["train"], self.images)
        return batches.sample(self.rng("train", step), self.meta_batch)

    def validate(self, params):
        """Return the accuracy of nearest neighbours on validation tasks."""
        curve = self._nearest(params, self.blocks("val", self.validation_tasks))
        return curve["mean"][0], curve["diverged"][0]

    def test(self, params, n_tasks):
        """Return the test results of all three baselines, 1-shot and 5-shot."""
        rows, tuned = [], {}
        for k_shot in (1, 5):
            experiment = tuned[k_shot] = self._tuned(k_shot, params)
            common = {"setting": experiment.setting, "steps": 0}
            pixels = [_pixel_means(tasks) for tasks in experiment.blocks("test", n_tasks)]
            curve = summarise(np.concatenate(pixels)[:, None])
            rows.append(self.row(curve=curve, method="Class means, raw pixels", **common))
            curve = self._nearest(params, experiment.blocks("test", n_tasks))
            more = {"method": "Nearest neighbour", "batch_norm": "training images"}
            rows.append(self.row(curve=curve, **common, **more))
            summaries = self._fine_tune(experiment, params, experiment.blocks("test", n_tasks))
            for kind, curve in zip((QUERY, SUPPORT), summaries):
                row = (experiment.setting, curve, self.test_steps)
                rows.append(experiment.row(*row, batch_norm=kind))
        rates = " and ".join(f"{e.inner_lr:g} ({k}-shot)" for k, e in tuned.items())
        side = _side(self.image_size)
        return {
            "protocol": f"accuracy +- 95 % CI over {n_tasks} tasks, seed {self.seed}; "
            f"{self.n_way}-way, {self.test_query or 'as many as shots'} query/class; trained on "
            f"{self.meta_batch} batches of {self.images} images an iteration; fine-tuning: all "
            f"layers, {self.test_steps} gradient step{'s' * (self.test_steps != 1)} of {rates}, "
            f"the best of {', '.join(f'{rate:g}' for rate in self.rates_tried)} on "
            f"{self.tuning_tasks} validation tasks by the {SUPPORT}; nearest neighbour: cosine, "
            f"batch norm by {self.known_images} training images; pixels: averaged to "
            f"{side}x{side}; {self.data_sentence()}",
            "metric": self.metric,
            "curves": {},
            "paper": {},
            "rows": rows,
        }

    def _fine_tuning(self, **changed):
        """Return the fine-tuning of this network, with the same images."""
        names = [field.name for field in fields(MiniImageNet)]
        experiment = FineTuning(**{name: getattr(self, name) for name in names} | changed)
        experiment.keep({split: self._images[split] for split in ("val", "test")}, self.data)
        return experiment

    def _tuned(self, k_shot, params):
        """Return the fine-tuning with the step size that is best on validation tasks."""

        def accuracy(candidate):  # by the support's statistics, as the row beside the paper's
            _, curve = self._fine_tune(
                candidate, params, candidate.blocks("val", self.tuning_tasks)
            )
            return 0 if curve["diverged"][0] else curve["mean"][0]

        candidates = [self._fine_tuning(k_shot=k_shot, inner_lr=rate) for rate in self.rates_tried]
        return max(candidates, key=accuracy)

    def _fine_tune(self, experiment, params, blocks):
        """Return the summaries of the scores after the last step, by both kinds of statistics."""
        fresh = experiment.model.init(self.rng("weights"))
        start = {n: fresh[n] if n.startswith("linear") else params[n] for n in fresh}
        last = [self.test_steps]
        wanted = (experiment.score, last), (experiment.inductive_score, last)
        return [summarise(scores) for scores in score_tasks(experiment, start, blocks, *wanted)]

    def _nearest(self, params, blocks):
        """Return the summary of labelling by the nearest support image."""
        body = nn.Sequential(*self.model.layers[:-1])
        known = TrainingBatches(self._images["train"], self.known_images)
        some = known.sample(self.rng("val", 1), 1)
        with no_grad():
            fixed = params | body.statistics(params, asarray(some.query.x[0]))

        def score(_, support, query):
            features = [raw(body(fixed, batch.x)) for batch in (support, query)]
            unit = [f / np.sqrt((f * f).sum(-1, keepdims=True) + 1e-12) for f in features]
            nearest = (unit[1] @ unit[0].swapaxes(-1, -2)).argmax(-1)
            right = (np.take_along_axis(raw(support.y), nearest, -1) == raw(query.y)).mean(-1)
            return np.where(np.isfinite(unit[1]).all((-2, -1)), right, np.nan)

        return summarise(score_tasks(self, params, blocks, (score, [0]))[0])


def _pixel_means(tasks):
    """Label by the nearest class mean of the pixels; the accuracy of each task."""
    accuracy = []
    for support_x, support_y, query_x, query_y in zip(*tasks.support, *tasks.query):
        support, query = _shrunk(support_x), _shrunk(query_x)
        means = np.stack([support[support_y == c].mean(0) for c in range(support_y.max() + 1)])
        distance = ((query[:, None] - means) ** 2).sum(-1)
        accuracy.append((distance.argmin(-1) == query_y).mean())
    return np.array(accuracy)


def _side(size):
    """Return to how many pixels a side images of a size are averaged: 21 of 84."""
    return size // max(1, size // 21)


def _shrunk(x):
    """Return square images (n, size, size, c) as vectors of fewer pixels, averages of blocks."""
    n, size, _, c = x.shape
    side = _side(size)
    f = size // side
    x = x[:, : side * f, : side * f]
    return x.reshape(n, side, f, side, f, c).mean((2, 4)).reshape(n, -1)
