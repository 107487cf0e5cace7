"""tinymaml: Model-Agnostic Meta-Learning from scratch on NumPy and CuPy."""

from . import learners, nn, optim, rl, tasks
from .checks.gradients import compare, gradcheck, gradgradcheck
from .checks.meta_gradient import check_meta_gradient
from .engine import func, ops
from .engine.backend import get_backend, set_backend, use_backend
from .engine.compile import compile
from .engine.grad import grad
from .engine.op import op
from .engine.tensor import Tensor, no_grad, tensor
from .experiments import training
from .experiments.pretrained import pretrained
from .few_shot import FewShotClassifier, FewShotRegressor
from .learners import maml
from .pictures.drawing import draw
from .pictures.memory import graph_memory
from .tasks import Batch, Task
from .version import __version__

__all__ = [
    "Batch",
    "FewShotClassifier",
    "FewShotRegressor",
    "Task",
    "Tensor",
    "__version__",
    "check_meta_gradient",
    "compare",
    "compile",
    "draw",
    "func",
    "get_backend",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph_memory",
    "learners",
    "maml",
    "nn",
    "no_grad",
    "op",
    "ops",
    "optim",
    "pretrained",
    "rl",
    "set_backend",
    "tasks",
    "tensor",
    "training",
    "use_backend",
]
