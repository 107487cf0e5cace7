"""The derivative table, and Tensor's operators and methods, which are its rows."""

import numpy as np

from ..numpy_rules import numpy_functions
from ..tensor import Tensor
from . import decompositions, elementwise, linalg, reduction, shape
from .conv import mean_pool2d
from .elementwise import gelu, relu, sigmoid, softplus
from .fast.conv import conv2d, max_pool2d
from .fast.norm import batch_norm
from .loss import cross_entropy, descend, mse
from .reduction import log_softmax, logsumexp, softmax, sum_to


def _operator(function):
    return lambda self, other: function(self, other)


def _reflected(function):
    return lambda self, other: function(other, self)


_symbols = "add sub mul truediv pow matmul and or xor"
_ufuncs = "add subtract multiply divide power matmul bitwise_and bitwise_or bitwise_xor"
for _symbol, _name in zip(_symbols.split(), _ufuncs.split()):
    _function = numpy_functions[getattr(np, _name)]
    setattr(Tensor, f"__{_symbol}__", _operator(_function))
    setattr(Tensor, f"__r{_symbol}__", _reflected(_function))
_symbols = "eq ne lt le gt ge"
_ufuncs = "equal not_equal less less_equal greater greater_equal"
for _symbol, _name in zip(_symbols.split(), _ufuncs.split()):
    setattr(Tensor, f"__{_symbol}__", _operator(elementwise.logic[_name]))
for _symbol, _name in zip(
    "neg pos abs invert".split(), "negative positive absolute invert".split()
):
    setattr(Tensor, f"__{_symbol}__", numpy_functions[getattr(np, _name)])
Tensor.__round__ = elementwise.round
Tensor.__getitem__ = shape.getitem

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
    "conv2d",
    "cross_entropy",
    "decompositions",
    "descend",
    "elementwise",
    "gelu",
    "linalg",
    "log_softmax",
    "logsumexp",
    "max_pool2d",
    "mean_pool2d",
    "mse",
    "reduction",
    "relu",
    "shape",
    "sigmoid",
    "softmax",
    "softplus",
    "sum_to",
]
