"""tinymaml: Model-Agnostic Meta-Learning from scratch on NumPy and CuPy."""

from . import func, maml, nn, ops, optim, training
from .autograd import grad
from .backend import get_backend, set_backend, use_backend
from .tasks import Batch, Task
from .tensor import Tensor, no_grad, op, tensor

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Task",
    "Tensor",
    "func",
    "get_backend",
    "grad",
    "no_grad",
    "op",
    "ops",
    "set_backend",
    "tensor",
    "use_backend",
]
