"""Layers: parameters by ``init``, and a function of them and an input.

A layer has no state. ``layer.init(rng)`` gives its parameters, a dict from dotted names to tensors
in order of use, and ``layer(params, x)`` applies it: the paper's f_theta(x). Each works on its last
axes and broadcasts over all leading ones, parameters included, so one call serves many tasks.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..engine import ops
from ..engine.ops.linalg import einsum, linear
from ..engine.ops.shape import reshape
from ..engine.tensor import Tensor, raw, tensor
from .weights import Initialiser, glorot_uniform, zeros

Params = dict[str, Tensor]


class Layer:
    """What all layers are: parameters by ``init``, and a function of them and an input."""

    names: Sequence[str] = ()  # of the parameters, in order of use
    optional: Sequence[str] = ()  # of those that may be given but that ``init`` does not draw

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """Return the layer's function of an input."""
        raise NotImplementedError

    def init(self, rng: np.random.Generator, dtype=np.float32) -> Params:
        """Draw initial parameters.

        Parameters
        ----------
        rng : numpy.random.Generator
            On the host for every backend, so that a seed gives the same weights everywhere.
        dtype : dtype
            Of the parameters.

        Returns
        -------
        dict of str to Tensor
            In order of use; each requires a gradient.
        """
        return {
            name: tensor(np.asarray(array, dtype), requires_grad=True)
            for name, array in self.draw(rng).items()
        }

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the initial parameters as float64 arrays."""
        return {}

    def statistics(self, params: Params, x: Tensor) -> Params:
        """Return the optional parameters that a batch gives; see :class:`Sequential`."""
        return {}

    def __repr__(self):
        options = [f"{k}={v}" for k, v in vars(self).items() if isinstance(v, (int, float, str))]
        return f"{type(self).__name__}({', '.join(options)})"


class Linear(Layer):
    """x @ weight + bias: ``(n,i),(i,o),(o)->(n,o)``.

    Parameters
    ----------
    inputs, outputs : int
    weight_init, bias_init : function
        Of (rng, shape).
    bias : bool
        Whether there is one.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> layer = tm.nn.Linear(3, 2)
    >>> params = layer.init(np.random.default_rng(0))
    >>> list(params), layer(params, np.zeros((5, 3))).shape
    (['weight', 'bias'], (5, 2))
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        weight_init: Initialiser = glorot_uniform,
        bias_init: Initialiser = zeros,
        bias: bool = True,
    ):
        self.inputs, self.outputs = inputs, outputs
        self.weight_init, self.bias_init = weight_init, bias_init
        self.names = ("weight", "bias") if bias else ("weight",)

    def draw(self, rng):
        drawn = {"weight": self.weight_init(rng, (self.inputs, self.outputs))}
        return drawn | (
            {"bias": self.bias_init(rng, (self.outputs,))} if "bias" in self.names else {}
        )

    def __call__(self, params, x):
        if x.ndim < 2 or x.shape[-1] != self.inputs:
            raise ValueError(
                f"Linear({self.inputs}, {self.outputs}) takes (..., n, {self.inputs}), "
                f"but the input has shape {x.shape}"
            )
        weight = params["weight"]
        return linear(x, weight, params["bias"]) if "bias" in self.names else x @ weight


class Conv2d(Layer):
    """Convolution of channels-last images: ``(n,h,w,c),(k,l,c,o),(o)->(n,p,q,o)``.

    Parameters
    ----------
    channels, outputs : int
    kernel_size, stride : int
    padding : {"same", "valid"}
        As :func:`tinymaml.ops.conv2d`.
    weight_init, bias_init : function
        Of (rng, shape).

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> layer = tm.nn.Conv2d(1, 64, 3, stride=2)
    >>> layer(layer.init(np.random.default_rng(0)), np.zeros((5, 28, 28, 1))).shape
    (5, 14, 14, 64)
    """

    names = ("weight", "bias")

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        padding: str = "same",
        weight_init: Initialiser = glorot_uniform,
        bias_init: Initialiser = zeros,
    ):
        self.channels, self.outputs, self.kernel_size = channels, outputs, kernel_size
        self.stride, self.padding = stride, padding
        self.weight_init, self.bias_init = weight_init, bias_init

    def draw(self, rng):
        shape = (self.kernel_size, self.kernel_size, self.channels, self.outputs)
        return {
            "weight": self.weight_init(rng, shape),
            "bias": self.bias_init(rng, (self.outputs,)),
        }

    def __call__(self, params, x):
        return ops.conv2d(x, params["weight"], params["bias"], self.stride, self.padding)


class ConvTranspose2d(Conv2d):
    """The transpose of a convolution: ``(n,p,q,i),(k,l,o,i),(o)->(n,h,w,o)``.

    Parameters
    ----------
    channels, outputs : int
        i and o.
    kernel_size, stride : int
    padding : {"same", "valid"}
        As :func:`tinymaml.ops.conv2d_transpose`.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> layer = tm.nn.ConvTranspose2d(16, 8, 2, stride=2)
    >>> layer(layer.init(np.random.default_rng(0)), np.zeros((5, 14, 14, 16))).shape
    (5, 28, 28, 8)
    """

    def draw(self, rng):
        shape = (self.kernel_size, self.kernel_size, self.outputs, self.channels)
        return {"weight": glorot_uniform(rng, shape), "bias": np.zeros(self.outputs)}

    def __call__(self, params, x):
        how = self.stride, self.padding
        return ops.conv2d_transpose(x, params["weight"], params["bias"], *how)


class BatchNorm(Layer):
    """Normalise each channel over the current batch, per task: ``(n,h,w,c)->`` or ``(n,c)->``.

    The statistics are those of the current batch, in training and at test, as in the authors' code:
    there are no running averages. If ``params`` also hold ``mean`` and ``var``, (c) each, these are
    used instead: see :meth:`Sequential.statistics`.

    Parameters
    ----------
    channels : int
    affine : bool
        Whether to scale by gamma and shift by beta, (c) each, afterwards.
    eps : float
        Added to the variance.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> layer = tm.nn.BatchNorm(1, affine=False)
    >>> layer({}, np.array([[1.0], [3.0]])).round(3)
    array([[-1.],
           [ 1.]])
    """

    optional = ("mean", "var")

    def __init__(self, channels: int, affine: bool = True, eps: float = 1e-5):
        self.channels, self.affine, self.eps = channels, affine, eps
        self.names = ("gamma", "beta") if affine else ()

    def draw(self, rng):
        if not self.affine:
            return {}
        return {"gamma": np.ones(self.channels), "beta": np.zeros(self.channels)}

    def __call__(self, params, x):
        if "mean" in params:
            return self._by_given_statistics(params, x)
        if self.affine:
            return ops.batch_norm(x, params["gamma"], params["beta"], self.eps)
        one = np.ones_like(raw(x), shape=self.channels)
        return ops.batch_norm(x, one, 0 * one, self.eps)

    def statistics(self, params: Params, x: Tensor) -> Params:
        """Return the mean and the biased variance of each channel over the batch, per task."""
        axes = tuple(range(-4 if x.ndim >= 4 else -2, -1))
        return {"mean": x.mean(axis=axes), "var": x.var(axis=axes)}

    def _by_given_statistics(self, params, x):
        core = 3 if x.ndim >= 4 else 1  # axes of an example, as ops.batch_norm tells them
        mean, var, *affine = (
            reshape(p, (*p.shape[:-1], *(1,) * core, p.shape[-1]))
            for p in (params[name] for name in ("mean", "var", *self.names))
        )
        y = (x - mean) / np.sqrt(var + self.eps)
        return y * affine[0] + affine[1] if affine else y


class MaxPool2d(Layer):
    """The maximum of every size x size window: ``(n,h,w,c)->(n,h//size,w//size,c)``."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, params, x):
        return ops.max_pool2d(x, self.size)


class SpatialMean(Layer):
    """The mean over height and width: ``(n,h,w,c)->(n,c)``."""

    def __call__(self, params, x):
        return x.mean(axis=(-3, -2))


class Resize(Layer):
    """Make images smaller, each pixel the mean of what it covers: ``(n,h,w,c)->(n,size,size,c)``.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> x = np.array([[0.0, 3.0, 6.0]] * 3)
    >>> tm.nn.Resize(2)({}, x[None, :, :, None])[0, :, :, 0]
    array([[1., 5.],
           [1., 5.]])
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, params, x):
        rows, columns = (self._shares(raw(x), n) for n in x.shape[-3:-1])
        return einsum("ph,...hwc,qw->...pqc", rows, x, columns)  # the same for arrays and tensors

    def _shares(self, x, n):
        """Return by how much each of n pixels makes up each of the new ones: (size, n)."""
        pixels = np.arange(n, like=x)
        edges = np.arange(self.size + 1, like=x)[:, None] * (n / self.size)
        shared = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
        return (np.maximum(shared, 0) * (self.size / n)).astype(x.dtype)


class Flatten(Layer):
    """All features of an image in one axis: ``(n,h,w,c)->(n,h*w*c)``."""

    def __call__(self, params, x):
        return reshape(x, (*x.shape[:-3], math.prod(x.shape[-3:])))


class Sigmoid(Layer):
    """1 / (1 + exp(-x)), elementwise."""

    def __call__(self, params, x):
        return ops.sigmoid(x)


class ReLU(Layer):
    """max(x, 0), elementwise."""

    def __call__(self, params, x):
        return ops.relu(x)


class ELU(Layer):
    """x where x > 0 and exp(x) - 1 elsewhere, elementwise (Clevert et al. 2016)."""

    def __call__(self, params, x):
        return ops.elu(x)


class Reshape(Layer):
    """Vectors as images: ``(n,h*w*c)->(n,h,w,c)``."""

    def __init__(self, *shape: int):
        self.shape = shape

    def __call__(self, params, x):
        return reshape(x, (*x.shape[:-1], *self.shape))


class Sequential(Layer):
    """Layers one after another.

    Parameters are named by layer and number: ``conv2d1.weight``, ``batchnorm1.gamma`` ...

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> model = tm.nn.Sequential(tm.nn.Linear(1, 40), tm.nn.ReLU(), tm.nn.Linear(40, 1))
    >>> list(model.init(np.random.default_rng(0)))
    ['linear1.weight', 'linear1.bias', 'linear2.weight', 'linear2.bias']
    """

    def __init__(self, *layers: Layer):
        self.layers, self.parts, count = layers, [], Counter()
        for layer in layers:
            kind = type(layer).__name__.lower()
            count[kind] += 1
            self.parts.append((layer, f"{kind}{count[kind]}."))
        self.names = [prefix + name for layer, prefix in self.parts for name in layer.names]
        self.optional = [prefix + name for layer, prefix in self.parts for name in layer.optional]

    def draw(self, rng):
        return {
            prefix + name: array
            for layer, prefix in self.parts
            for name, array in layer.draw(rng).items()
        }

    def __call__(self, params, x):
        for layer, prefix in self.parts:
            x = layer(_own(params, layer, prefix), x)
        return x

    def statistics(self, params: Params, x: Tensor) -> Params:
        """Return the statistics of a batch at every batch norm, as parameters that fix them.

        With ``params | model.statistics(params, support)`` the model normalises every input by the
        statistics of the support, so that no query example sees another one: the inductive
        protocol. Statistics of training images do what running averages do elsewhere.

        Parameters
        ----------
        params : dict of str to Tensor
        x : Tensor or array
            The batch.

        Returns
        -------
        dict of str to Tensor
            ``batchnorm1.mean``, ``batchnorm1.var`` ...

        Examples
        --------
        >>> import numpy as np, tinymaml as tm
        >>> model = tm.nn.Sequential(tm.nn.BatchNorm(1, affine=False))
        >>> fixed = model.statistics({}, np.array([[1.0], [3.0]]))
        >>> model(fixed, np.array([[2.0], [4.0]])).round(3)
        array([[0.],
               [2.]])
        """
        found = {}
        for layer, prefix in self.parts:
            own = _own(params, layer, prefix)
            found |= {prefix + name: value for name, value in layer.statistics(own, x).items()}
            x = layer(own, x)
        return found

    def __repr__(self):
        return "Sequential(\n" + "".join(f"  {layer!r},\n" for layer in self.layers) + ")"


class Residual(Sequential):
    """x plus what layers one after another make of it (He et al. 2016).

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.nn.Residual(tm.nn.ReLU())({}, np.array([-1.0, 2.0]))
    array([-1.,  4.])
    """

    def __call__(self, params, x):
        return x + super().__call__(params, x)


def _own(params, layer, prefix):
    """Return the parameters of one layer, by the layer's own names."""
    own = {name: params[prefix + name] for name in layer.names}
    for name in layer.optional:
        if prefix + name in params:
            own[name] = params[prefix + name]
    return own


def cosine_similarity(a: Tensor, b: Tensor, eps: float = 1e-12) -> Tensor:
    """The cosine between each vector of ``a`` and each of ``b``: ``(m,d),(n,d)->(m,n)``.

    Parameters
    ----------
    a, b : Tensor or array
        Vectors in the last axis.
    eps : float
        Added to every squared length: the similarity to a vector of zeros is 0.

    Examples
    --------
    >>> import numpy as np
    >>> cosine_similarity(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, -2.0]])).round(6)
    array([[ 0.6, -0.8]])
    """
    of_a, of_b = (np.sqrt(np.sum(np.square(v), axis=-1) + eps) for v in (a, b))
    return a @ b.swapaxes(-1, -2) / (of_a[..., :, None] * of_b[..., None, :])


def dropout(x: Tensor, rate: float, rng: np.random.Generator) -> Tensor:
    """Zero each element with probability ``rate``, and divide the others by ``1 - rate``.

    So the mean stays (Srivastava et al. 2014, in the form of today's libraries). At test, leave it
    out.

    Parameters
    ----------
    x : Tensor or array
    rate : float
        In [0, 1).
    rng : numpy.random.Generator
        Equal generators drop the same elements, on every backend.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(np.ones(6), 0.5, np.random.default_rng(0))
    array([2., 0., 0., 0., 2., 2.])
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: the rate is {rate}; give a number from 0 to below 1")
    kept = np.where(rng.random(x.shape) < rate, 0, 1 / (1 - rate)).astype(x.dtype)
    return x * np.asarray(kept, like=raw(x))
