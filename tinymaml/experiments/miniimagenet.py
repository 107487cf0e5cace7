"""Few-shot classification of photographs, and the two baselines that share a pretrained network."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from .. import nn, paper
from ..backend import asarray
from ..errors import UserError
from ..evaluation import score_tasks, summarise
from ..tasks import Batch, Task
from ..tensor import no_grad, raw
from .classification import QUERY, SUPPORT, Classification


@dataclass(frozen=True)
class MiniImageNet(Classification):
    """Few-shot classification of photographs (Finn et al. 2017, section 5.2): four convolutions.

    Takes any images in a layout of MiniImageNet; tables name the data by their title.
    """

    steps: int = 60_000
    meta_batch: int = 4
    inner_lr: float = 0.01
    inner_steps: int = 5
    n_query: int = 15
    test_steps: int = 10
    filters: int = 32
    image_size: int = 84
    clip: float = 10.0

    data = "MiniImageNet"
    chunk = test_chunk = 1
    log_every, validate_every, checkpoint_every = 10, 500, 50
    validation_tasks = 100

    def __post_init__(self):
        super().__post_init__()
        if self.filters < 1:
            raise UserError(f"--filters is {self.filters}; give 1 or more")
        if not 16 <= self.image_size <= 512:
            raise UserError(f"--image-size is {self.image_size}; give 16 to 512 pixels")
        if not 0 <= self.clip < float("inf"):
            raise UserError(f"--clip is {self.clip}; give a number above 0, or 0 for no clipping")

    @cached_property
    def model(self):
        return nn.conv4(
            self.n_way,
            channels=3,
            filters=self.filters,
            downsample="pool",
            image_size=self.image_size,
        )

    def gradient(self, params, tasks):
        """Return the meta-loss and its gradient, clipped elementwise.

        The authors clip the gradient of a loss that is summed over the query and divided by K; on
        the mean over the query the limit is that much smaller.
        """
        value, gradient = super().gradient(params, tasks)
        if self.clip:
            limit = self.clip * self.k_shot / (self.n_way * self.queries("train"))
            gradient = {name: np.clip(g, -limit, limit) for name, g in gradient.items()}
        return value, gradient

    def load_data(self, data=None):
        """Load the images of a folder or zip in any layout; returns its path.

        UserError if it does not hold what is needed.
        """
        from ..tasks import miniimagenet

        loaded = miniimagenet.load(data, self.image_size)
        object.__setattr__(self, "data", loaded.title)
        self.keep(loaded.images)
        return str(miniimagenet.find(data).resolve())

    def data_sentence(self):
        """Return the part of the protocol that is about the images."""
        counts = "/".join(str(len(self._images[split])) for split in ("train", "val", "test"))
        size = self.image_size
        return f"images: {self.data}, {size}x{size} pixels, {counts} classes"


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
    with the step size that is best on validation tasks; or each query image gets the label of the
    support image whose features are nearest by cosine. Nearest class means of the pixels are the
    floor for both.
    """

    steps: int = 30_000
    meta_batch: int = 4  # batches of 16 images, each normalised by itself
    inner_steps: int = 0
    test_steps: int = 15
    test_query: int = 15
    filters: int = 64
    clip: float = 0.0

    fixed = ("first_order", "inner_lr", "inner_steps", "k_shot", "n_query", "clip")
    method = "Baselines"
    log_every, validate_every, checkpoint_every = 20, 500, 100
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
        batches = TrainingBatches(self._images["train"], 16)
        return batches.sample(self.rng("train", step), self.meta_batch)

    def validate(self, params):
        """Return the accuracy of nearest neighbours on validation tasks."""
        tasks = self.tasks("val").sample(self.rng("val"), self.validation_tasks)
        return self._nearest(params, tasks)["mean"][0], 0

    def test(self, params, n_tasks):
        """Return the test results of all three baselines, 1-shot and 5-shot."""
        rows, rates = [], {}
        for k_shot in (1, 5):
            experiment = self._fine_tuning(k_shot=k_shot)
            tasks = experiment.tasks("test").sample(self.rng("test"), n_tasks)
            pixels = summarise(_pixel_means(tasks)[:, None])
            common = {"setting": experiment.setting, "steps": 0}
            rows.append(self.row(curve=pixels, method="Class means, raw pixels", **common))
            nearest = self._nearest(params, tasks)
            more = {"method": "Nearest neighbour", "batch_norm": "training images"}
            rows.append(self.row(curve=nearest, **common, **more))
            experiment = rates[k_shot] = self._tuned(experiment, params)
            summaries = self._fine_tune(experiment, params, tasks)
            for kind, curve in zip((QUERY, SUPPORT), summaries):
                row = (experiment.setting, curve, self.test_steps)
                rows.append(experiment.row(*row, batch_norm=kind))
        tuned = " and ".join(f"{e.inner_lr:g} ({k}-shot)" for k, e in rates.items())
        return {
            "protocol": f"accuracy +- 95 % CI over {n_tasks} tasks, seed {self.seed}; "
            f"{self.n_way}-way, {self.queries('test')} query/class; fine-tuning: all layers, "
            f"{self.test_steps} gradient steps of {tuned}, the best of "
            f"{', '.join(f'{rate:g}' for rate in self.rates_tried)} on {self.tuning_tasks} "
            "validation tasks; nearest neighbour: cosine, batch norm by training images; pixels: "
            f"averaged to about 21x21; {self.data_sentence()}",
            "metric": self.metric,
            "curves": {},
            "paper": {},
            "rows": rows,
        }

    def _fine_tuning(self, **changed):
        """Return the fine-tuning of this network, with the same images."""
        names = [field.name for field in fields(MiniImageNet)]
        experiment = FineTuning(**{name: getattr(self, name) for name in names} | changed)
        object.__setattr__(experiment, "_images", self._images)
        object.__setattr__(experiment, "data", self.data)
        return experiment

    def _tuned(self, experiment, params):
        """Return the fine-tuning with the step size that is best on validation tasks."""
        tasks = experiment.tasks("val").sample(self.rng("val"), self.tuning_tasks)
        accuracy = {}
        for rate in self.rates_tried:
            candidate = self._fine_tuning(k_shot=experiment.k_shot, inner_lr=rate)
            accuracy[rate] = self._fine_tune(candidate, params, tasks)[0]["mean"][0]
        best = max(accuracy, key=accuracy.get)
        return self._fine_tuning(k_shot=experiment.k_shot, inner_lr=best)

    def _fine_tune(self, experiment, params, tasks):
        """Return the summaries of the scores after the last step, by both kinds of statistics."""
        fresh = experiment.model.init(self.rng("weights"))
        start = {n: fresh[n] if n.startswith("linear") else params[n] for n in fresh}
        last = [self.test_steps]
        wanted = (experiment.score, last), (experiment.inductive_score, last)
        return [summarise(scores) for scores in score_tasks(experiment, start, tasks, *wanted)]

    def _nearest(self, params, tasks):
        """Return the summary of labelling by the nearest support image."""
        body = nn.Sequential(*self.model.layers[:-1])
        some = TrainingBatches(self._images["train"], 256).sample(self.rng("val", 1), 1)
        with no_grad():
            fixed = params | body.statistics(params, asarray(some.query.x[0]))

        def score(_, support, query):
            features = [raw(body(fixed, batch.x)) for batch in (support, query)]
            unit = [f / np.sqrt((f * f).sum(-1, keepdims=True) + 1e-12) for f in features]
            nearest = (unit[1] @ unit[0].swapaxes(-1, -2)).argmax(-1)
            return (np.take_along_axis(raw(support.y), nearest, -1) == raw(query.y)).mean(-1)

        return summarise(score_tasks(self, params, tasks, (score, [0]))[0])


def _pixel_means(tasks):
    """Label by the nearest class mean of the pixels, about 21 x 21; the accuracy of each task."""
    accuracy = []
    for support_x, support_y, query_x, query_y in zip(*tasks.support, *tasks.query):
        support, query = _shrunk(support_x), _shrunk(query_x)
        means = np.stack([support[support_y == c].mean(0) for c in range(support_y.max() + 1)])
        distance = ((query[:, None] - means) ** 2).sum(-1)
        accuracy.append((distance.argmin(-1) == query_y).mean())
    return np.array(accuracy)


def _shrunk(x):
    """Return images (n, h, w, c) as vectors of pixels, averaged to about 21 x 21 of them."""
    n, h, w, c = x.shape
    f = max(1, h // 21)
    x = x[:, : h // f * f, : w // f * f]
    return x.reshape(n, h // f, f, w // f, f, c).mean((2, 4)).reshape(n, -1)
