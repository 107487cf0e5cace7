"""Methods: the settings of each learner, and the learner that they make for a problem.

A new learner needs one dataclass here, with its name in tables and the method ``learner``. All
else has a default that serves any classifier.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import learners, nn
from ..engine.backend import asarray
from ..engine.tensor import no_grad
from ..errors import UserError
from ..pictures import plots
from ..tasks import Batch, Task
from .classification import QUERY, SUPPORT, MiniImageNet, TrainingBatches
from .floors import PixelMeans
from .problem import Problem, Trial
from .schedule import ABOVE_0, Schedule, check, choose, option

#: What systems learn to learn by; ``tinymaml list`` shows them by group
GROUPS = ("optimisation", "metric", "memory", "generative", "baselines", "reinforcement")


class Method:
    """How it is learned: a frozen dataclass, whose options are the settings of a run."""

    name = ""  # in tables
    group = "optimisation"  # of GROUPS
    ways: tuple[int, ...] = ()  # numbers of classes of the tests, beside the problem's own
    shots: tuple[int, ...] = ()  # and of shots
    test_steps = 0  # of adaptation, at validation and test; for many methods an option
    without: tuple[str, ...] = ("train_way",)  # settings of a problem that have no meaning here

    def learner(self, problem: Problem, inductive: bool = False) -> learners.Learner:
        """Return the learner for a problem.

        Parameters
        ----------
        problem : Problem
        inductive : bool
            Whether batch norm takes the support's statistics at test, or the query batch's.
        """
        raise NotImplementedError

    def label(self, problem: Problem) -> str:
        """Return the name of the method on a problem in tables."""
        return ", ".join([self.name, *problem.suffix])

    def validation(self, problem: Problem, params: dict, schedule: Schedule) -> Trial:
        """Return what a validation scores."""
        return Trial(self.learner(problem), params, problem, self.name, [self.test_steps])

    def trials(self, problem: Problem, params: dict, schedule: Schedule) -> Iterator[Trial]:
        """Yield the parts of the test."""
        return problem.trials(self, params)

    def protocol(
        self, problem: Problem, trials: list, rows: list, n_tasks: int, schedule: Schedule
    ) -> str:
        """Return the sentence that says how it was tested."""
        return problem.protocol(trials, rows, n_tasks, schedule.seed)

    def figures(self, run, problem: Problem, params: dict, rng: Callable) -> list[Path]:
        """Draw the method's own figures into a run's folder, and return their paths."""
        return []


@dataclass(frozen=True)
class MAML(Method):
    """MAML, second order or first (Finn et al. 2017)."""

    first_order: bool = option(False, "first-order MAML: take inner gradients as constants")
    inner_lr: float = option(0.01, "learning rate of the inner loop: alpha")
    inner_steps: int = option(1, "gradient steps of the inner loop in training; 0: none")
    test_steps: int = option(1, "gradient steps at test")
    head: str = option("own", "last layer at first: each class its own, or one tied for all")
    learned_lr: bool = option(False, "learn the inner rate of each parameter at each step")
    multi_step: bool = option(False, "descend the mean of the losses after every inner step")

    name = "MAML"
    system = None  # MAML, or MAMLPlus if that is asked for

    def __post_init__(self):
        choose(self, "head", "own", "tied")
        check(self, "inner_lr", least=ABOVE_0, what="a number above 0")
        check(self, "inner_steps", least=0, most=1000, what="1 or more, or 0 for no adaptation")
        check(self, "test_steps", least=1, most=100, what="1 to 100")
        if not self.inner_steps and (self.head == "tied" or self.learned_lr or self.multi_step):
            raise UserError(
                "--inner-steps is 0; give 1 or more with --head tied, --learned-lr or --multi-step"
            )

    def learner(self, problem, inductive=False):
        tied, rates = self.head == "tied", problem.rates(self.inner_lr)
        model = problem.tied_model if tied else problem.model
        if isinstance(rates, dict):
            rates = {name: rates[name] for name in model.names}
        steps = (self.inner_steps, self.first_order, self.test_steps, inductive)
        more = (problem.n_way if tied else None, self.learned_lr, self.multi_step)
        system = self.system or (learners.MAMLPlus if any(more) else learners.MAML)
        more = () if system is learners.MAML else more
        return system(model, problem.loss, rates, *steps, *more)

    def label(self, problem):
        name = self.name if self.inner_steps else "Pretrained"
        tied, first_order = self.head == "tied", self.first_order and self.inner_steps
        words = ["tied head"] * tied + ["first order"] * bool(first_order)
        words += ["learned rates"] * (self.learned_lr and not tied)
        words += ["multi-step loss"] * self.multi_step
        return ", ".join([name, *problem.suffix, *words])


@dataclass(frozen=True)
class ANIL(MAML):
    """ANIL: MAML whose inner loop moves the last layer alone (Raghu et al. 2020)."""

    name = "ANIL"
    system = learners.ANIL


@dataclass(frozen=True)
class MetaSGD(MAML):
    """Meta-SGD: MAML with a learned inner rate of every weight (Li et al. 2017)."""

    name = "Meta-SGD"
    system = learners.MetaSGD
    without = (*Method.without, "learned_lr")


@dataclass(frozen=True)
class IMAML(Method):
    """Implicit MAML: a meta-gradient from the end of the inner loop (Rajeswaran et al. 2019)."""

    inner_lr: float = option(0.1, "learning rate of the inner loop")
    inner_steps: int = option(16, "gradient steps of the inner loop in training")
    test_steps: int = option(16, "gradient steps at test")
    strength: float = option(2.0, "how strongly the inner loop is held near its start: lambda")
    cg_steps: int = option(5, "steps of conjugate gradients")

    name = "iMAML"

    def __post_init__(self):
        check(self, "inner_lr", "strength", least=ABOVE_0, what="a number above 0")
        names = ("inner_steps", "test_steps", "cg_steps")
        check(self, *names, least=1, most=1000, what="1 or more")

    def learner(self, problem, inductive=False):
        return learners.IMAML(
            problem.model,
            problem.loss,
            self.inner_lr,
            self.inner_steps,
            self.test_steps,
            self.strength,
            self.cg_steps,
            inductive,
        )


@dataclass(frozen=True)
class Pretrained(Method):
    """One network for the points of all tasks together, then fine-tuned (section 5.1).

    The step sizes are those in the legends of the paper's figures: 0.01 at K = 5 and 0.02 above.
    """

    name = "Pretrained"
    group = "baselines"
    test_steps = 1

    def learner(self, problem, inductive=False):
        rate = 0.01 if problem.k_shot == 5 else 0.02
        return learners.Pretrained(problem.model, problem.loss, problem.rates(rate), test_steps=1)


@dataclass(frozen=True)
class Oracle(Method):
    """A network that is told which task it is, and so has nothing to learn from the support."""

    name = "Oracle"
    group = "baselines"

    def learner(self, problem, inductive=False):
        return learners.NoAdaptation(problem.model, problem.loss)


class MetricMethod(Method):
    """A learner that compares images; one training serves tests of any number of classes."""

    group = "metric"
    without = ()
    ways = (5, 20)  # of the tests

    def ways_of(self, problem: Problem) -> dict:
        """Return what the learner is told of the numbers of classes, at test and in training."""
        return {"n_way": problem.n_way, "train_way": problem.train_way or None}


@dataclass(frozen=True)
class ProtoNet(MetricMethod):
    """Prototypical networks: the nearest class mean in a learned space (Snell et al. 2017)."""

    name = "ProtoNet"

    def learner(self, problem, inductive=False):
        return learners.ProtoNet(problem.body, inductive=inductive, **self.ways_of(problem))


@dataclass(frozen=True)
class MatchingNet(MetricMethod):
    """Matching networks: attention over the support, by the cosine (Vinyals et al. 2016)."""

    temperature: float = option(0.05, "what the cosine is divided by in the attention")
    fce_steps: int = option(0, "steps of full context embeddings; 0: none of them")

    name = "Matching nets"

    def __post_init__(self):
        check(self, "temperature", least=ABOVE_0, what="a number above 0")
        check(self, "fce_steps", least=0, most=100, what="1 or more, or 0 for none of them")

    def label(self, problem):
        """Return the name: on photographs the paper's row is with full context embeddings."""
        usual = isinstance(problem, MiniImageNet)
        words = [] if usual == bool(self.fce_steps) else ["no FCE" if usual else "FCE"]
        return ", ".join([self.name, *problem.suffix, *words])

    def learner(self, problem, inductive=False):
        settings = {"temperature": self.temperature, "fce_steps": self.fce_steps}
        settings |= {"features": problem.features, "inductive": inductive}
        return learners.MatchingNet(problem.body, **settings, **self.ways_of(problem))


class WithMemory(Method):
    """A learner with a memory, trained on streams; it is validated after one view of a class."""

    group = "memory"

    def validation(self, problem, params, schedule):
        return next(problem.trials(self, params))._replace(steps=range(2))


@dataclass(frozen=True)
class MANN(WithMemory):
    """A memory-augmented neural network (Santoro et al. 2016), without convolution."""

    name = "MANN"

    def learner(self, problem, inductive=False):
        body = nn.Sequential(nn.Resize(20), nn.Flatten())
        return learners.MANN(body, 20 * 20, problem.n_way)

    def label(self, problem):
        return f"{self.name}, no conv"


@dataclass(frozen=True)
class MemoryModule(WithMemory):
    """The memory module (Kaiser et al. 2017), on four convolutions without batch norm.

    The paper's network has 64 filters, and 128 after the first pooling; its vectors have 256
    elements.
    """

    filters: int = option(
        32, "filters of the first two convolutions, the others have twice as many"
    )
    width: int = option(128, "elements of the vectors that are compared")

    name = "Memory module"
    ways = (5, 20)
    without = ()

    def __post_init__(self):
        check(self, "filters", "width", least=1, most=10_000, what="1 or more")

    def learner(self, problem, inductive=False):
        layers, channels = [], 1
        for filters in (self.filters, 2 * self.filters):
            layers += [nn.Conv2d(channels, filters, 3), nn.ReLU()]
            layers += [nn.Conv2d(filters, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
            channels = filters
        body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(7 * 7 * channels, self.width))
        return learners.MemoryModule(body, self.width)


@dataclass(frozen=True)
class MetaLSTM(Method):
    """Meta-learner LSTM: a learned rule of optimisation (Ravi & Larochelle 2017)."""

    inner_steps: int = option(12, "updates of the learner in training")
    test_steps: int = option(12, "updates of the learner at test")

    name = "Meta-learner LSTM"

    def __post_init__(self):
        check(self, "inner_steps", "test_steps", least=1, most=100, what="1 to 100")

    def learner(self, problem, inductive=False):
        steps = self.inner_steps, self.test_steps
        return learners.MetaLSTM(problem.model, problem.loss, *steps, inductive=inductive)


@dataclass(frozen=True)
class Siamese(MetricMethod):
    """Siamese networks: are two images of one class? (Koch et al. 2015).

    They are trained on pairs, so one training also serves tests of any number of shots.
    """

    distort: bool = option(True, "distort the images of the training")
    weight_decay: float = 0.0

    name = "Siamese nets"
    shots = (1, 5)

    def learner(self, problem, inductive=False):
        koch = problem.image_size == 105
        body, features = (nn.koch(), 4096) if koch else (problem.body, problem.features)
        settings = {"weight_decay": self.weight_decay, "distort": self.distort}
        return learners.Siamese(
            body, features=features, inductive=inductive, **settings, **self.ways_of(problem)
        )


@dataclass(frozen=True)
class Statistician(Method):
    """Neural statistician: a variational autoencoder over sets (Edwards & Storkey 2017).

    One training serves all numbers of classes and shots of the table. The paper's sizes are 64
    filters, a context of 512 and 256 hidden units.
    """

    filters: int = option(16, "filters of the encoder's first convolutions, the decoder's last")
    context: int = option(128, "size of the context c of a set")
    latent: int = option(16, "size of the latent z of an image")
    hidden: int = option(128, "units of the hidden layers")

    name = "Neural statistician"
    group = "generative"
    ways, shots = (5, 20), (1, 5)
    without = ("n_way", "k_shot")

    def __post_init__(self):
        check(
            self, "filters", "context", "latent", "hidden", least=1, most=10_000, what="1 or more"
        )

    def learner(self, problem, inductive=False):
        networks = nn.conv9(self.filters), nn.deconv9(self.hidden, self.filters)
        sizes = 64 * self.filters, self.context, self.latent, self.hidden
        ways = problem.n_way, problem.train_way or None
        return learners.NeuralStatistician(*networks, *sizes, *ways, inductive)

    def protocol(self, problem, trials, rows, n_tasks, schedule):
        queries, size = problem.test_query or "as many as shots", 1 + problem.queries("train")
        return (
            f"accuracy +- 95 % CI over {n_tasks} tasks, seed {schedule.seed}; {queries} "
            f"query/class; one training, of sets of 1 to {size} images, for all settings; "
            f"{problem.data_sentence()}"
        )

    def figures(self, run, problem, params, rng):
        """Draw sets of test classes and beside each what the network makes of its context."""
        n = min(10, len(problem.images.splits["test"]))
        problem = problem.replace(n_way=n, k_shot=5)
        sets, learner = next(problem.blocks("test", rng("test"), 1)).support, self.learner(problem)
        noise = rng("test", 1).standard_normal((1, n, 10, self.latent), np.float32)
        with no_grad():
            made = learner.samples(params, Batch(*map(asarray, sets)), asarray(noise)).numpy()
        labels = np.repeat(np.arange(n), 10)[None]
        tasks, captions = Task(sets, Batch(made, labels)), ("set", "samples of its context")
        draw = lambda axes: plots.contact_sheet(tasks, captions=captions, ax=axes[0])
        plots.save(run / "samples.png", draw, width=8, height=6)
        return [run / "samples.png"]


@dataclass(frozen=True)
class Reptile(Method):
    """Reptile: a step towards the parameters that each task ends at (Nichol et al. 2018)."""

    inner_lr: float = option(1e-3, "learning rate of the inner optimiser, Adam with beta1 = 0")
    inner_steps: int = option(5, "steps of the inner optimiser in training")
    inner_batch: int = option(10, "examples of each step of the inner optimiser")
    test_steps: int = option(50, "steps of the inner optimiser at test")

    name = "Reptile"

    def __post_init__(self):
        check(self, "inner_lr", least=ABOVE_0, what="a number above 0")
        names = ("inner_steps", "inner_batch", "test_steps")
        check(self, *names, least=1, most=1000, what="1 or more")

    def learner(self, problem, inductive=False):
        settings = (self.inner_lr, self.inner_steps, self.inner_batch, self.test_steps)
        return learners.Reptile(problem.flat_model, problem.loss, *settings, inductive)


@dataclass(frozen=True)
class Baselines(Method):
    """A classifier of all training classes, then fine-tuned, or with nearest neighbours.

    The baselines of Ravi & Larochelle 2017. For fine-tuning the network gets a fresh last layer,
    one draw for all tasks, and everything takes 15 gradient steps on the support, with the step
    size that is best on validation tasks (they try more of them, and decay too). The nearest
    neighbour gives each query image the label of the support image whose features are nearest by
    cosine. The nearest class mean of the pixels is the floor for both.
    """

    test_steps: int = option(15, "gradient steps of the fine-tuning")
    rates_tried: tuple = (0.5, 0.1, 0.01, 0.001)
    tuning_tasks: int = 30
    known_images: int = 64  # whose statistics batch norm takes where nothing is fine-tuned

    name = "Baselines"
    group = "baselines"

    def __post_init__(self):
        check(self, "test_steps", least=1, most=100, what="1 to 100")

    def learner(self, problem, inductive=False):
        return learners.Pretrained(problem.model, problem.loss, 0.0)

    def validation(self, problem, params, schedule):
        """Return the test of the nearest neighbour."""
        some = TrainingBatches(problem.images.splits["train"], self.known_images)
        images = some.sample(schedule.rng("val", 1), 1).query.x[0]
        with no_grad():
            fixed = params | problem.body.statistics(params, asarray(images))
        learner = learners.NearestNeighbour(problem.body, problem.n_way)
        return Trial(learner, fixed, problem, "Nearest neighbour", batch_norm="training images")

    def trials(self, problem, params, schedule):
        for k_shot in (1, 5):
            few = problem.replace(k_shot=k_shot)
            yield Trial(
                learners.ProtoNet(PixelMeans(), few.n_way), {}, few, "Class means, raw pixels"
            )
            yield self.validation(few, params, schedule)
            rate = self.tuned(few, params, schedule)
            for inductive in (False, True):
                yield self.fine_tuning(few, params, schedule, rate, inductive)

    def fine_tuning(
        self, problem: Problem, params: dict, schedule: Schedule, rate: float, inductive: bool
    ) -> Trial:
        """Return the test of fine-tuning by a rate, from a fresh last layer."""
        model = problem.network(problem.n_way)
        fresh = model.init(schedule.rng("weights"))
        start = {n: fresh[n] if n.startswith("linear") else params[n] for n in fresh}
        settings = {"test_steps": self.test_steps, "inductive": inductive}
        learner = learners.Pretrained(model, problem.loss, rate, **settings)
        last, kind = [self.test_steps], SUPPORT if inductive else QUERY
        return Trial(learner, start, problem, "Fine-tuning", last, last, kind)

    def tuned(self, problem: Problem, params: dict, schedule: Schedule) -> float:
        """Return the rate that is best on validation tasks, by the support's statistics."""

        def accuracy(rate):
            trial = self.fine_tuning(problem, params, schedule, rate, inductive=True)
            curve = trial.score("val", schedule.rng("val"), self.tuning_tasks)
            return 0 if curve["diverged"][0] else curve["mean"][0]

        return max(self.rates_tried, key=accuracy)

    def protocol(self, problem, trials, rows, n_tasks, schedule):
        tuned = [trial for trial in trials if trial.batch_norm == SUPPORT]
        rates = " and ".join(f"{t.learner.lr:g} ({t.problem.k_shot}-shot)" for t in tuned)
        plural = "s" * (self.test_steps != 1)
        side = problem.image_size // max(1, problem.image_size // 21)
        return (
            f"accuracy +- 95 % CI over {n_tasks} tasks, seed {schedule.seed}; "
            f"{problem.n_way}-way, {problem.test_query or 'as many as shots'} query/class; "
            f"trained on {schedule.meta_batch} batches of {problem.batch} images an iteration; "
            f"fine-tuning: all layers, {self.test_steps} gradient step{plural} of {rates}, "
            f"the best of {', '.join(f'{rate:g}' for rate in self.rates_tried)} on "
            f"{self.tuning_tasks} validation tasks by the {SUPPORT}; "
            f"nearest neighbour: cosine, batch norm by {self.known_images} training images; "
            f"pixels: averaged to {side}x{side}; "
            f"{problem.data_sentence()}"
        )
