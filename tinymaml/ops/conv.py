"""Convolution and pooling of channels-last images.

Convolution is linear in the image and in the weight, so it is three ops closed under
differentiation: conv2d, its input gradient and its weight gradient; each one's derivatives are
the other two. Each is a matrix product with the patches of the image laid out as rows (im2col).
"""

import itertools

import numpy as np

from ..backend import array_module
from ..tensor import op, raw
from .blocks import blocks, task_axis
from .reduction import mean
from .shape import reshape


def same_padding(size, kernel, stride):
    """Return the padding (before, after) that makes the output ceil(size / stride) long.

    As TensorFlow pads: one more after than before if the total is odd.

    Examples
    --------
    >>> same_padding(28, 3, 2), same_padding(7, 3, 2), same_padding(7, 3, 1)
    ((0, 1), (1, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _patches(x, kernel, stride, padding, out):
    """Yield (tasks, images, rows): every patch of x, (tasks, n, h, w, c), as a row of a matrix.

    ``out`` is the height and width of the result. The rows of a block are overwritten by the next.
    """
    (tasks, n, h, w, c), (k, l), (p, q) = x.shape, kernel, out
    (top, bottom), (left, right) = padding
    strided = array_module(x).lib.stride_tricks.as_strided
    dense = not (top or bottom or left or right) and x.flags.c_contiguous
    rows = padded = None
    for t, i in blocks(x, tasks, n, p * q * k * l * c):
        block = x[t, i]
        if rows is None:  # the first block is the largest
            rows = np.empty((*block.shape[:2], p, q, k, l * c), x.dtype, like=x)
            if not dense:
                shape = (*block.shape[:2], h + top + bottom, w + left + right, c)
                padded = np.zeros(shape, x.dtype, like=x)
        if not dense:
            window = padded[: block.shape[0], : block.shape[1]]
            window[:, :, top : top + h, left : left + w] = block
            block = window
        st, si, sh, sw, sc = block.strides
        view = strided(  # k runs of l * c contiguous numbers for every patch
            block, (*block.shape[:2], p, q, k, l * c), (st, si, stride * sh, stride * sw, sh, sc)
        )
        part = rows[: block.shape[0], : block.shape[1]]
        part[...] = view
        yield t, i, part.reshape(block.shape[0], block.shape[1] * p * q, k * l * c)


def _output_size(shape, kernel, stride, padding):
    return tuple(
        [(n + sum(pad) - k) // stride + 1 for n, k, pad in zip(shape[-3:-1], kernel, padding)]
    )


def _lead(x, x_core, w, w_core):
    return np.broadcast_shapes(x.shape[: x.ndim - x_core], w.shape[: w.ndim - w_core])


def _conv2d_forward(x, weight, bias=None, *, stride, padding):
    lead = _lead(x, 4, weight, 4)
    if bias is not None:
        lead = np.broadcast_shapes(lead, bias.shape[:-1])
        bias = task_axis(lead, bias, 1)[:, None]
    kernel, o = weight.shape[-4:-2], weight.shape[-1]
    out = _output_size(x.shape, kernel, stride, padding)
    x, weight = task_axis(lead, x, 4), task_axis(lead, weight, 4)
    tasks, n = x.shape[:2]
    matrix = weight.reshape(tasks, -1, o)
    y = np.empty((tasks, n, *out, o), x.dtype, like=x)
    for t, i, rows in _patches(x, kernel, stride, padding, out):
        part = y[t, i].reshape(rows.shape[0], -1, o)
        np.matmul(rows, matrix[t], out=part)
        if bias is not None:
            part += bias[t]
    return y.reshape(*lead, n, *out, o)


def _input_grad_forward(g, weight, *, shape, stride, padding):
    """The image gradient: g @ weight^T gives the gradient of every patch; overlaps are added."""
    if stride == 1:  # then it is a convolution with the weight turned by 180 degrees
        k, l = weight.shape[-4:-2]
        (top, _), (left, _) = padding
        h, w = shape
        p, q = g.shape[-3:-1]
        turned = np.ascontiguousarray(weight[..., ::-1, ::-1, :, :].swapaxes(-1, -2))
        around = ((k - 1 - top, h - p + top), (l - 1 - left, w - q + left))
        return _conv2d_forward(g, turned, stride=1, padding=around)
    lead = _lead(g, 4, weight, 4)
    k, l, c, o = weight.shape[-4:]
    g, weight = task_axis(lead, g, 4), task_axis(lead, weight, 4)
    (tasks, n, p, q), (h, w) = g.shape[:4], shape
    (top, bottom), (left, right) = padding
    matrix = weight.reshape(tasks, -1, o).swapaxes(-1, -2)
    y = np.empty((tasks, n, h, w, c), g.dtype, like=g)
    # room for whole groups of `stride` rows and columns
    high, wide = (
        max(h + top + bottom, stride * (p + k // stride + 1)),
        max(w + left + right, stride * (q + l // stride + 1)),
    )
    high, wide = -(-high // stride) * stride, -(-wide // stride) * stride
    for t, i in blocks(g, tasks, n, p * q * k * l * c):
        gi = np.ascontiguousarray(g[t, i])
        b, m = gi.shape[:2]
        rows = (gi.reshape(b, -1, o) @ matrix[t]).reshape(b, m, p, q, k, l, c)
        padded = np.zeros((b, m, high, wide, c), g.dtype, like=g)
        grid = padded.reshape(b, m, high // stride, stride, wide // stride, stride, c)
        # within a group no two patches overlap, so the whole group is added at once
        for a, e in itertools.product(range(0, k, stride), range(0, l, stride)):
            group = rows[:, :, :, :, a : a + stride, e : e + stride]
            y0, x0 = a // stride, e // stride
            target = grid[:, :, y0 : y0 + p, : group.shape[4], x0 : x0 + q, : group.shape[5]]
            target += group.swapaxes(3, 4)
        y[t, i] = padded[:, :, top : top + h, left : left + w]
    return y.reshape(*lead, n, h, w, c)


def _weight_grad_forward(x, g, *, kernel, stride, padding):
    """The weight gradient: patches^T @ g."""
    lead = _lead(x, 4, g, 4)
    x, g = task_axis(lead, x, 4), task_axis(lead, g, 4)
    c, o, out = x.shape[-1], g.shape[-1], g.shape[2:4]
    y = np.empty((x.shape[0], kernel[0] * kernel[1] * c, o), g.dtype, like=g)
    for t, i, rows in _patches(x, kernel, stride, padding, out):
        gi = g[t, i].reshape(rows.shape[0], -1, o)
        if i.start == 0:
            np.matmul(rows.swapaxes(-1, -2), gi, out=y[t])
        else:
            y[t] += rows.swapaxes(-1, -2) @ gi
    return y.reshape(*lead, *kernel, c, o)


_conv2d = op(
    _conv2d_forward,
    lambda g, _y, _x, weight, *_bias, stride, padding: _input_grad(
        g, weight, shape=_x.shape[-3:-1], stride=stride, padding=padding
    ),
    lambda g, _y, x, _weight, *_bias, stride, padding: _weight_grad(
        x, g, kernel=_weight.shape[-4:-2], stride=stride, padding=padding
    ),
    lambda g, _y, _x, _weight, _bias, stride, padding: g.sum(axis=(-4, -3, -2)),
    name="conv2d",
)
_input_grad = op(
    _input_grad_forward,
    lambda g, _y, _x, weight, shape, stride, padding: _conv2d(
        g, weight, stride=stride, padding=padding
    ),
    lambda g, _y, x, _weight, shape, stride, padding: _weight_grad(
        g, x, kernel=_weight.shape[-4:-2], stride=stride, padding=padding
    ),
    name="conv2d_input_grad",
)
_weight_grad = op(
    _weight_grad_forward,
    lambda g, _y, _x, h, kernel, stride, padding: _input_grad(
        h, g, shape=_x.shape[-3:-1], stride=stride, padding=padding
    ),
    lambda g, _y, x, _h, kernel, stride, padding: _conv2d(x, g, stride=stride, padding=padding),
    name="conv2d_weight_grad",
)


def conv2d(x, weight, bias=None, stride=1, padding="same"):
    """Cross-correlate images with a weight.

    ``(n,h,w,c),(k,l,c,o),(o)->(n,p,q,o)``, broadcast over all leading axes.

    Parameters
    ----------
    x : Tensor or array, shape (..., n, h, w, c)
    weight : Tensor or array, shape (..., k, l, c, o)
    bias : Tensor or array, shape (..., o), optional
    stride : int
    padding : {"same", "valid"}
        "same": the result is ceil(h / stride) high, padded as TensorFlow does; "valid": none.

    Raises
    ------
    ValueError
        If the shapes do not fit; the sentence names them.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d(np.ones((1, 4, 4, 1)), np.ones((3, 3, 1, 2)), stride=2).shape
    (1, 2, 2, 2)
    """
    if x.ndim < 4 or weight.ndim < 4:
        raise ValueError(
            f"conv2d takes images (..., n, h, w, c) and a weight (..., k, l, c, o), "
            f"but was given shapes {x.shape} and {weight.shape}"
        )
    if x.shape[-1] != weight.shape[-2]:
        raise ValueError(
            f"conv2d: input has {x.shape[-1]} channels {x.shape} "
            f"but weight takes {weight.shape[-2]} {weight.shape}"
        )
    if padding not in ("same", "valid"):
        raise ValueError(f"conv2d: padding is {padding!r}; choose 'same' or 'valid'")
    kernel, size = weight.shape[-4:-2], x.shape[-3:-1]
    if padding == "same":
        pads = tuple([same_padding(n, k, stride) for n, k in zip(size, kernel)])
    elif size[0] < kernel[0] or size[1] < kernel[1]:
        raise ValueError(f"conv2d: the kernel {kernel} is larger than the image {size}")
    else:
        pads = ((0, 0), (0, 0))
    arguments = (x, weight) if bias is None else (x, weight, bias)
    return _conv2d(*arguments, stride=stride, padding=pads)


# Max-pooling picks elements; its derivative puts them back by the same indices.
def _windows(x, size):
    """Return the size^2 views of x that hold the first, second ... element of every window."""
    h, w = x.shape[-3] // size * size, x.shape[-2] // size * size
    return [x[..., a:h:size, b:w:size, :] for a in range(size) for b in range(size)]


def _gather_forward(x, *, index, size):
    first, *rest = _windows(x, size)
    y = first * (index == 0)
    for k, part in enumerate(rest, 1):
        y += part * (index == k)
    return y


def _scatter_forward(g, *, index, size, shape):
    whole = all(n % size == 0 for n in shape)
    make = np.empty if whole else np.zeros  # what does not fill a window gets no gradient
    y = make((*g.shape[:-3], *shape, g.shape[-1]), g.dtype, like=g)
    for k, part in enumerate(_windows(y, size)):
        np.multiply(g, index == k, out=part)
    return y


_pool_gather = op(
    _gather_forward,
    lambda g, _y, _x, index, size: _pool_scatter(g, index=index, size=size, shape=_x.shape[-3:-1]),
    name="max_pool2d_gather",
)
_pool_scatter = op(
    _scatter_forward,
    lambda g, _y, _x, index, size, shape: _pool_gather(g, index=index, size=size),
    name="max_pool2d_scatter",
)


def max_pool2d(x, size=2):
    """Take the maximum of every ``size`` x ``size`` window of channels-last images.

    ``(n,h,w,c)->(n,h//size,w//size,c)``; rows and columns that fill no window are dropped. Among
    equal elements the first takes the whole gradient.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    if min(x.shape[-3:-1]) < size:
        raise ValueError(f"max_pool2d: images of {x.shape[-3:-1]} are smaller than {size}")
    y, *rest = _windows(raw(x), size)
    y = y.copy()
    index = np.zeros(y.shape, np.uint8, like=y)
    for k, part in enumerate(rest, 1):
        larger = part > y
        index += larger * (np.uint8(k) - index)  # modulo 256, so that a step back works too
        np.maximum(y, part, out=y)
    return _pool_gather(x, index=index, size=size)


def mean_pool2d(x, size=2):
    """Take the mean of every ``size`` x ``size`` window of channels-last images.

    ``(n,h,w,c)->(n,h//size,w//size,c)``; rows and columns that fill no window are dropped.

    Examples
    --------
    >>> import numpy as np
    >>> mean_pool2d(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    *lead, h, w, c = x.shape
    p, q = h // size, w // size
    if (h, w) != (p * size, q * size):
        x = x[..., : p * size, : q * size, :]
    return mean(reshape(x, (*lead, p, size, q, size, c)), axis=(-4, -2))
