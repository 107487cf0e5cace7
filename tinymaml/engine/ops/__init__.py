"""The derivative table, and Tensor's operators and methods, which are its rows."""

import operator

import numpy as np

from ..numpy_rules import numpy_functions
from ..tensor import Tensor
from . import assembly, decompositions, elementwise, linalg, reduction, shape, statistics, ufuncs
from .conv import mean_pool2d
from .elementwise import elu, gelu, relu, sigmoid, softplus
from .fast.conv import conv2d, conv2d_transpose, max_pool2d
from .fast.norm import batch_norm
from .loss import cross_entropy, descend, mse
from .reduction import log_softmax, logsumexp, softmax, sum_to


def _operator(function):
    return lambda self, other: function(self, other)


def _reflected(function):
    return lambda self, other: function(other, self)


def _method(function):
    return numpy_functions.get(function) or (lambda self, *args, **kw: function(self, *args, **kw))


def _in_place(name):
    def refuse(self, *_, **__):
        raise TypeError(
            f"a tensor has no {name}(), which changes it in place, so that its derivative would be "
            "wrong; use NumPy's functions, which give a new one"
        )

    return refuse


def _of_array(name):
    return lambda self, *args, **kwargs: getattr(self.numpy(), name)(*args, **kwargs)


_symbols = "add sub mul truediv floordiv mod divmod pow matmul and or xor"
_ufuncs = (
    "add subtract multiply divide floor_divide remainder divmod power matmul bitwise_and "
    "bitwise_or bitwise_xor"
)
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

# A tensor has the methods of an array, which are NumPy's functions, but for those in place.
for _name in (
    "all any argmax argmin argpartition argsort astype choose clip conj conjugate copy cumprod "
    "cumsum diagonal dot max mean min nonzero prod ravel repeat round searchsorted squeeze std sum "
    "swapaxes take trace var"
).split():
    setattr(Tensor, _name, _method(getattr(np, _name)))
for _name in "byteswap fill partition put resize setflags setfield sort".split():
    setattr(Tensor, _name, _in_place(_name))
Tensor.reshape = shape.reshape
Tensor.transpose = shape.transpose
Tensor.compress = lambda self, condition, axis=None: assembly.compress(condition, self, axis)
Tensor.flatten = numpy_functions[np.ravel]
Tensor.real = property(ufuncs.real, doc="The tensor itself.")
Tensor.imag = property(ufuncs.imag, doc="Zeros.")
Tensor.nbytes = property(lambda self: self.data.nbytes, doc="Bytes that the values take.")
Tensor.itemsize = property(lambda self: self.data.itemsize, doc="Bytes of one element.")
for _name in "tobytes tofile dump dumps".split():
    setattr(Tensor, _name, _of_array(_name))
for _name in "flags strides device".split():
    setattr(Tensor, _name, property(operator.attrgetter(f"data.{_name}"), doc="As of the array."))
Tensor.flat = property(lambda self: shape.ravel(self), doc="The tensor with one axis.")
Tensor.T = property(shape.transpose, doc="The tensor with its axes reversed.")
Tensor.mT = property(linalg.mT, doc="The tensor with its last two axes exchanged.")

__all__ = [
    "assembly",
    "batch_norm",
    "conv2d",
    "conv2d_transpose",
    "cross_entropy",
    "decompositions",
    "descend",
    "elementwise",
    "elu",
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
    "statistics",
    "sum_to",
    "ufuncs",
]
