"""The derivative table, and Tensor's operators and methods, which are its rows."""

from ..tensor import Tensor
from . import conv, decompositions, elementwise, linalg, loss, norm, reduction, shape
from .conv import mean_pool2d
from .elementwise import gelu, relu, sigmoid, softplus
from .fast.conv import conv2d, max_pool2d
from .fast.norm import batch_norm
from .loss import cross_entropy, descend, mse
from .reduction import log_softmax, logsumexp, softmax, sum_to

_operators = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "pow": elementwise.power,
    "matmul": linalg.matmul,
    "and": elementwise.logic["bitwise_and"],
    "or": elementwise.logic["bitwise_or"],
    "xor": elementwise.logic["bitwise_xor"],
}


def _reflected(function):
    return lambda self, other: function(other, self)


for _name, _function in _operators.items():
    setattr(Tensor, f"__{_name}__", _function)
    setattr(Tensor, f"__r{_name}__", _reflected(_function))

Tensor.__neg__ = elementwise.negative
Tensor.__pos__ = elementwise.positive
Tensor.__abs__ = elementwise.absolute
Tensor.__round__ = elementwise.round
Tensor.__invert__ = elementwise.logic["invert"]
Tensor.__getitem__ = shape.getitem
for _name, _function in {
    "__eq__": "equal",
    "__ne__": "not_equal",
    "__lt__": "less",
    "__le__": "less_equal",
    "__gt__": "greater",
    "__ge__": "greater_equal",
}.items():
    setattr(Tensor, _name, elementwise.logic[_function])

for _module, _names in {
    elementwise: "clip round",
    reduction: "sum mean prod max min var std cumsum argmax argmin argsort any all",
    shape: "reshape ravel transpose swapaxes squeeze astype repeat diagonal trace take",
    linalg: "dot",
}.items():
    for _name in _names.split():
        setattr(Tensor, _name, getattr(_module, _name))
Tensor.flatten = shape.ravel
Tensor.T = property(shape.transpose, doc="The tensor with its axes reversed.")
Tensor.mT = property(linalg.mT, doc="The tensor with its last two axes exchanged.")

__all__ = [
    "batch_norm",
    "conv",
    "conv2d",
    "cross_entropy",
    "decompositions",
    "descend",
    "elementwise",
    "gelu",
    "linalg",
    "log_softmax",
    "logsumexp",
    "loss",
    "max_pool2d",
    "mean_pool2d",
    "mse",
    "norm",
    "reduction",
    "relu",
    "shape",
    "sigmoid",
    "softmax",
    "softplus",
    "sum_to",
]
