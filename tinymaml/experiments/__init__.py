"""The paper's experiments by name: ``tinymaml list`` shows them, ``tinymaml train NAME`` runs one.

Each is a small frozen dataclass. Its fields are stored with the run, and are options of the command
line but for those in ``fixed``.
"""

from dataclasses import fields, replace

from ..errors import UserError
from .baselines import MiniImageNetPretrained
from .experiment import Experiment, flag
from .miniimagenet import MiniImageNet
from .omniglot import Omniglot, OmniglotMLP
from .sinusoid import Sinusoid, SinusoidOracle, SinusoidPretrained

__all__ = [
    "EXPERIMENTS",
    "OF_THE_TEST",
    "Experiment",
    "MiniImageNet",
    "MiniImageNetPretrained",
    "Omniglot",
    "OmniglotMLP",
    "Sinusoid",
    "SinusoidOracle",
    "SinusoidPretrained",
    "flag",
    "from_config",
]

#: Settings that a training does not depend on: a run may be tested by others
OF_THE_TEST = ("test_steps", "test_query")

# Finn et al. 2017, A.1, and the authors' code for the 5-shot batches of MiniImageNet.
_TWENTY = Omniglot(n_way=20, inner_lr=0.1, inner_steps=5, test_steps=5, meta_batch=16)
EXPERIMENTS = {
    "sinusoid": Sinusoid(),
    "sinusoid-first-order": Sinusoid(first_order=True),
    "sinusoid-pretrained": SinusoidPretrained(),
    "sinusoid-oracle": SinusoidOracle(),
    "omniglot": Omniglot(),
    "omniglot-5shot": Omniglot(k_shot=5),
    "omniglot-first-order": Omniglot(first_order=True),
    "omniglot-20way": _TWENTY,
    "omniglot-20way-5shot": replace(_TWENTY, k_shot=5),
    "omniglot-mlp": OmniglotMLP(),
    "omniglot-mlp-5shot": OmniglotMLP(k_shot=5),
    "miniimagenet": MiniImageNet(),
    "miniimagenet-5shot": MiniImageNet(k_shot=5, meta_batch=2),
    "miniimagenet-first-order": MiniImageNet(first_order=True),
    "miniimagenet-5shot-first-order": MiniImageNet(k_shot=5, meta_batch=2, first_order=True),
    "miniimagenet-pretrained": MiniImageNetPretrained(),
}


def from_config(name, config):
    """Return the experiment of a name with the fields that a run stored.

    Raises
    ------
    UserError
        If the name or a field is unknown, or a value is not of its type.

    Examples
    --------
    >>> from_config("sinusoid", {"steps": 2000}).steps
    2000
    """
    if name not in EXPERIMENTS:
        raise UserError(f"experiment {name!r} is unknown; choose one of {', '.join(EXPERIMENTS)}")
    preset = EXPERIMENTS[name]
    types = {field.name: field.type for field in fields(preset)}
    for key, value in config.items():
        if key not in types:
            raise UserError(f"{key!r} is no setting of the experiment {name}")
        if types[key] is float and type(value) is int:
            continue
        if type(value) is not types[key]:
            raise UserError(f"the setting {key} is {value!r}, but {types[key].__name__} is needed")
    return replace(preset, **config)
