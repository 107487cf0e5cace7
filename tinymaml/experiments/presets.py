"""The experiments by name: ``tinymaml list`` shows them, ``tinymaml train NAME`` runs one."""

from dataclasses import replace

from ..errors import UserError
from . import methods
from .classification import AllClasses, MiniImageNet, Omniglot, OmniglotMLP
from .experiment import Experiment
from .reinforcement import (
    AntDirection,
    AntVelocity,
    CheetahDirection,
    CheetahVelocity,
    Navigation,
    PolicyMAML,
    PolicyOracle,
    Reinforcement,
)
from .runs import Run
from .schedule import Schedule
from .sinusoid import InformedSinusoids, Sinusoids
from .streams import OmniglotStreams

# Finn et al. 2017, A.1, and the authors' code for the 5-shot batches of MiniImageNet.
_WAVES = Schedule(
    steps=70_000, meta_batch=25, log_every=100, validate_every=5000, checkpoint_every=1000
)
_CHARACTERS = Schedule(steps=60_000, meta_batch=32)
_PHOTOGRAPHS = Schedule(
    steps=60_000, meta_batch=4, clip=10.0, log_every=10, checkpoint_every=50, validation_tasks=100
)
# alpha as the text prints it; Table 2 is what the authors' released default, 0.001, gives.
_SINUSOID = Experiment(methods.MAML(inner_lr=0.01), Sinusoids(), _WAVES)
_OMNIGLOT = Experiment(methods.MAML(inner_lr=0.4, test_steps=3), Omniglot(), _CHARACTERS)
_TWENTY = _OMNIGLOT.replace(n_way=20, inner_lr=0.1, inner_steps=5, test_steps=5, meta_batch=16)
_MLP = Experiment(_OMNIGLOT.method, OmniglotMLP(), _CHARACTERS)
_MINI = Experiment(
    methods.MAML(inner_lr=0.01, inner_steps=5, test_steps=10), MiniImageNet(), _PHOTOGRAPHS
)
# Snell et al. 2017: 60 classes and 5 query images in training, one episode at a time.
_PROTONET = Experiment(
    methods.ProtoNet(),
    Omniglot(train_way=60, n_query=5),
    Schedule(steps=20_000, meta_batch=1, decay="halving"),
)
# Nichol et al. 2018, the authors' code: ten images of each class in training, and an outer step
# that falls from 1 to 0.
_REPTILE = Experiment(
    methods.Reptile(),
    Omniglot(n_query=9),
    Schedule(
        steps=100_000,
        meta_batch=5,
        meta_lr=1.0,
        optimizer="sgd",
        decay="linear",
        log_every=100,
        validate_every=2000,
        validation_tasks=100,
    ),
)
# Trained as ProtoNet is: Vinyals et al. 2016 do not say how many classes they trained with
_MATCHING = Experiment(methods.MatchingNet(), _PROTONET.problem, _PROTONET.schedule)
# Ravi & Larochelle 2017, the authors' code, without its dropout
_FCE = Experiment(
    methods.MatchingNet(fce_steps=3),
    MiniImageNet(filters=64),
    replace(_PHOTOGRAPHS, steps=75_000, meta_batch=1, meta_lr=1e-4, clip=0.0, log_every=20),
)
_SIAMESE = Experiment(
    methods.Siamese(),
    Omniglot(train_way=20, n_query=9),
    Schedule(steps=20_000, meta_batch=1, decay="halving"),
)
# Koch et al. 2015, with the optimiser, its rate and the weights' decay of replicas of it: 128 pairs
# of an episode, of images as they are drawn. Theirs are tests within an alphabet.
_KOCH = Experiment(
    methods.Siamese(weight_decay=2e-4),
    Omniglot(n_way=20, train_way=8, n_query=2, split="lake", image_size=105),
    Schedule(steps=90_000, meta_batch=1, meta_lr=6e-5, validate_every=1000),
)
# Raghu et al. 2020 take MAML's settings; of Meta-SGD's one step, lr is where its rates start.
_ANIL = Experiment(
    methods.ANIL(inner_lr=0.1, inner_steps=5, test_steps=5), _TWENTY.problem, _TWENTY.schedule
)
_META_SGD = Experiment(methods.MetaSGD(inner_lr=0.1), Omniglot(), _CHARACTERS)
_IMAML = Experiment(methods.IMAML(), Omniglot(), _CHARACTERS)
# The order of labels cannot matter where all classes start from one vector (Ye & Chao 2022); the
# rates, the schedule and the batch of MAML++ (Antoniou et al. 2019)
_TIED = Experiment(
    methods.MAML(inner_lr=0.1, head="tied", learned_lr=True),
    Omniglot(n_way=20),
    Schedule(steps=12_000, meta_batch=8, decay="cosine", validate_every=1000),
)
# Edwards & Storkey 2017: batches of 32 sets of 5 images.
_STATISTICIAN = Experiment(
    methods.Statistician(),
    Omniglot(train_way=32, n_query=4),
    Schedule(steps=45_000, meta_batch=1, log_every=50, validate_every=1000),
)
# Santoro et al. 2016: 16 streams of 50 steps. Public code takes 100,000 steps of Adam at 1e-3; at
# three times this rate the memory is discovered after a third of the steps.
_MANN = Experiment(
    methods.MANN(),
    OmniglotStreams(),
    Schedule(
        steps=30_000,
        meta_batch=16,
        meta_lr=3e-3,
        decay="linear",
        clip_norm=10.0,
        log_every=100,
        validate_every=1000,
    ),
)
# Kaiser et al. 2017, the authors' code: 16 streams of 5 classes that share a memory, which is one
# stream of 80 classes, and a step size of 1e-4 with another epsilon of Adam.
_MEMORY = Experiment(
    methods.MemoryModule(),
    OmniglotStreams(views=6, train_way=80, rounds=True, of_the_table=(1, 5)),
    Schedule(steps=10_000, meta_batch=1, meta_lr=3e-4, checkpoint_every=20),
)
# Ravi & Larochelle 2017, the authors' code: one task an iteration.
_META_LSTM = Experiment(
    methods.MetaLSTM(),
    MiniImageNet(test_query=15),
    replace(_PHOTOGRAPHS, steps=75_000, meta_batch=1, clip=0.0, clip_norm=0.25, log_every=20),
)
EXPERIMENTS = {
    "sinusoid": _SINUSOID,
    "sinusoid-first-order": _SINUSOID.replace(first_order=True),
    "sinusoid-pretrained": Experiment(methods.Pretrained(), Sinusoids(), _WAVES),
    "sinusoid-oracle": Experiment(methods.Oracle(), InformedSinusoids(), _WAVES),
    "omniglot": _OMNIGLOT,
    "omniglot-5shot": _OMNIGLOT.replace(k_shot=5),
    "omniglot-first-order": _OMNIGLOT.replace(first_order=True),
    "omniglot-20way": _TWENTY,
    "omniglot-20way-5shot": _TWENTY.replace(k_shot=5),
    "omniglot-mlp": _MLP,
    "omniglot-mlp-5shot": _MLP.replace(k_shot=5),
    "omniglot-protonet": _PROTONET,
    "omniglot-reptile": _REPTILE,
    "omniglot-mann": _MANN,
    "omniglot-memory-module": _MEMORY,
    "omniglot-20way-tied": _TIED,
    "omniglot-20way-anil": _ANIL,
    "omniglot-meta-sgd": _META_SGD,
    "omniglot-imaml": _IMAML,
    "omniglot-matching": _MATCHING,
    "omniglot-siamese": _SIAMESE,
    "omniglot-siamese-koch": _KOCH,
    "omniglot-statistician": _STATISTICIAN,
    "miniimagenet": _MINI,
    "miniimagenet-5shot": _MINI.replace(k_shot=5, meta_batch=2),
    "miniimagenet-first-order": _MINI.replace(first_order=True),
    "miniimagenet-5shot-first-order": _MINI.replace(k_shot=5, meta_batch=2, first_order=True),
    "miniimagenet-meta-lstm": _META_LSTM,
    "miniimagenet-5shot-meta-lstm": _META_LSTM.replace(
        k_shot=5, inner_steps=8, test_steps=8, steps=50_000
    ),
    "miniimagenet-matching": _FCE,
    "miniimagenet-pretrained": Experiment(
        methods.Baselines(),
        AllClasses(),
        replace(_PHOTOGRAPHS, steps=30_000, clip=0.0, log_every=20, checkpoint_every=100),
    ),
}
# Finn et al. 2017, A.2, with the authors' code for what the paper leaves open.
_PLANE = Reinforcement(
    PolicyMAML(),
    Navigation(),
    Schedule(
        steps=500,
        meta_batch=20,
        meta_lr=1e-2,
        log_every=1,
        validate_every=25,
        checkpoint_every=5,
        validation_tasks=40,
    ),
)
_ROBOT = replace(_PLANE.schedule, steps=800, meta_batch=40)
#: What stands beside each experiment of reinforcement learning, by the end of its name
BESIDE = {
    "first-order": lambda one: one.replace(first_order=True),
    "pretrained": lambda one: one.replace(inner_steps=0),
    "oracle": lambda one: replace(
        one, method=PolicyOracle(rollouts=one.method.rollouts, max_kl=one.method.max_kl)
    ),
    "random": lambda one: one.replace(update="none", steps=1),
}
for _name, _one in {
    "navigation": _PLANE,
    # the authors' result is of iteration 100 with this bound
    "cheetah-direction": Reinforcement(PolicyMAML(max_kl=0.02), CheetahDirection(), _ROBOT),
    "cheetah-velocity": Reinforcement(PolicyMAML(), CheetahVelocity(), _ROBOT),
    "ant-direction": Reinforcement(PolicyMAML(rollouts=40), AntDirection(), _ROBOT),
    "ant-velocity": Reinforcement(PolicyMAML(), AntVelocity(), _ROBOT),
}.items():
    EXPERIMENTS[_name] = _one
    EXPERIMENTS |= {f"{_name}-{end}": made(_one) for end, made in BESIDE.items()}
# Settings in runs of earlier versions that their experiment did not depend on
_WITHOUT_EFFECT = {"first_order", "inner_lr", "inner_steps", "k_shot", "n_query", "clip"}


def from_config(name: str, config: dict) -> Experiment:
    """Return the experiment of a name with the settings that a run stored.

    Raises
    ------
    UserError
        If the name or a setting is unknown, or a value is not of its type.

    Examples
    --------
    >>> from_config("sinusoid", {"steps": 2000}).schedule.steps
    2000
    """
    if name not in EXPERIMENTS:
        raise UserError(f"experiment {name!r} is unknown; choose one of {', '.join(EXPERIMENTS)}")
    preset = EXPERIMENTS[name]
    options, settings = preset.options(), {}
    for key, value in config.items():
        if key in options:
            kind = options[key].type
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise UserError(f"the setting {key} is {value!r}, but {kind.__name__} is needed")
            settings[key] = value
        elif key not in _WITHOUT_EFFECT:
            raise UserError(f"{key!r} is not a setting of the experiment {name}")
    return preset.replace(**settings)


def experiment_of(run: Run) -> tuple[str, Experiment]:
    """Return the name of the experiment that a run's folder says it is of, and the experiment.

    Raises
    ------
    UserError
        If the folder holds no run, or what it says is not an experiment; see :func:`from_config`.
    """
    config = run.read_json("config.json")
    name, settings = config.get("experiment"), config.get("settings")
    if not isinstance(name, str) or not isinstance(settings, dict):
        raise UserError(
            f"{run / 'config.json'} has no experiment and settings; it is not a run of tinymaml"
        )
    return name, from_config(name, settings)
