"""tinymaml: Model-Agnostic Meta-Learning from scratch on NumPy and CuPy."""

from . import func, maml, nn, ops, optim, tasks, training
from .autograd import grad
from .backend import get_backend, set_backend, use_backend
from .checks import compare, gradcheck, gradgradcheck
from .drawing import draw
from .memory import graph_memory
from .metacheck import check_meta_gradient
from .tasks import Batch, Task
from .tensor import Tensor, no_grad, op, tensor

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Task",
    "Tensor",
    "check_meta_gradient",
    "compare",
    "draw",
    "func",
    "get_backend",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph_memory",
    "maml",
    "nn",
    "no_grad",
    "op",
    "ops",
    "optim",
    "set_backend",
    "tasks",
    "tensor",
    "training",
    "use_backend",
]
