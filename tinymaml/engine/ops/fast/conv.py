"""Convolution and max-pooling in blocks that fit the cache: what runs.

Each of the three ops of a convolution is a matrix product with the patches of the image laid out
as rows (im2col). Max-pooling picks elements; its derivative puts them back by the same indices.
"""

import numpy as np

from ...backend import array_module
from ...op import op
from ..conv import arguments, out_size, three_ops
from ..elementwise import _keep
from ..shape import reshape, same_dtype
from .blocks import blocks, task_axis

#: Bytes of patches laid out at once: within a core's share of the cache, yet large matrices.
CONV_BLOCK = 1 << 20


def _patches(x, kernel, stride, before, out):
    """Yield (tasks, images, rows): every patch of x, (tasks, n, h, w, c), as a row of a matrix.

    ``before`` is the padding above and to the left; ``out``, the height and width of the result,
    says how much is needed below and to the right. The next block overwrites the rows.
    """
    (tasks, n, h, w, c), (k, l), (p, q), (top, left) = x.shape, kernel, out, before
    high, wide = (p - 1) * stride + k, (q - 1) * stride + l
    parts = blocks(x, tasks, n, p * q * k * l * c, CONV_BLOCK)
    t, i = parts[0]  # the largest
    size = (t.stop - t.start, i.stop - i.start)
    dense = x.strides[-2:] == (c * x.itemsize, x.itemsize)
    padded = top or left or high > h or wide > w or not dense
    source = np.zeros((*size, high, wide, c), x.dtype, like=x) if padded else x
    st, si, sh, sw, sc = source.strides
    strided = array_module(x).lib.stride_tricks.as_strided
    windows = strided(  # k runs of l * c contiguous numbers for every patch
        source, (*source.shape[:2], p, q, k, l * c), (st, si, stride * sh, stride * sw, sh, sc)
    )
    rows = np.empty((*size, p, q, k, l * c), x.dtype, like=x)
    for t, i in parts:
        here = (t, i)
        if padded:
            here = (slice(0, t.stop - t.start), slice(0, i.stop - i.start))
            inside = source[here][:, :, top : top + h, left : left + w]
            inside[...] = x[t, i, : inside.shape[2], : inside.shape[3]]
        part = rows[: t.stop - t.start, : i.stop - i.start]
        part[...] = windows[here]
        yield t, i, part.reshape(len(part), part.shape[1] * p * q, k * l * c)


def _align(x, weight, bias=None):
    """Return the common leading axes, and images, weight and bias with one task axis.

    Where all tasks share the weight, their images become those of one task: one large matrix
    product in place of many small ones.
    """
    lead = np.broadcast_shapes(x.shape[:-4], weight.shape[:-4])
    if bias is not None:
        lead = np.broadcast_shapes(lead, bias.shape[:-1])
        bias = task_axis(lead, bias, 1)
    x, weight = task_axis(lead, x, 4), task_axis(lead, weight, 4)
    if len(x) and weight.strides[0] == 0 and (bias is None or bias.strides[0] == 0):
        x, weight = x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:]), weight[:1]
        bias = bias if bias is None else bias[:1]
    return lead, x, weight, bias


def _room(shape, like, out):
    """Return room for a result: new memory, or that of ``out``."""
    return np.empty(shape, like.dtype, like=like) if out is None else out.reshape(shape)


def _correlate(x, weight, bias, stride, before, y):
    """Write the correlation of (tasks, n, h, w, c) with (tasks, k, l, c, o) into y."""
    tasks, k, l, c, o = weight.shape
    matrix = weight.reshape(tasks, k * l * c, o)
    dense = y.flags.c_contiguous
    for t, i, rows in _patches(x, (k, l), stride, before, y.shape[2:4]):
        part = y[t, i].reshape(*rows.shape[:2], o) if dense else None
        part = np.matmul(rows, matrix[t], out=part)
        if bias is not None:
            part += bias[t, None]
        if not dense:
            y[t, i] = part.reshape(y[t, i].shape)


def _conv2d_forward(x, weight, bias, image, kernel, stride, padding, out=None):
    n, o, size = x.shape[-4], weight.shape[-1], out_size(image, kernel, stride, padding)
    lead, x, weight, bias = _align(x, weight, bias)
    y = _room((*x.shape[:2], *size, o), x, out)
    _correlate(x, weight, bias, stride, (padding[0][0], padding[1][0]), y)
    return y.reshape(*lead, n, *size, o)


def _input_grad_forward(g, weight, image, kernel, stride, padding, out=None):
    """The image gradient.

    Row r of a padded image meets row i of the kernel where i = r (mod stride). So the rows of one
    remainder meet every stride-th row of the kernel, and their gradient is the correlation of g
    with those rows in reverse; and so for columns.
    """
    n, (k, l), (c, o) = g.shape[-4], kernel, weight.shape[-2:]
    lead, g, weight, _ = _align(g, weight)
    y = _room((*g.shape[:2], *image, c), g, out)
    if min(k, l) < stride:  # a pixel that no patch has gets 0
        y[...] = 0
    (top, _), (left, _) = padding
    if stride > 1:  # pad once for all remainders; with stride 1 it is done block by block
        m = max(k, l) // stride + 1  # no remainder needs more on any side
        wide = np.zeros((*g.shape[:2], g.shape[2] + 2 * m, g.shape[3] + 2 * m, o), g.dtype, like=g)
        wide[:, :, m:-m, m:-m] = g
    for rows, of_kernel, above in _remainders(k, stride, top):
        for columns, across_kernel, before in _remainders(l, stride, left):
            taps = weight[:, of_kernel, across_kernel].swapaxes(-1, -2)
            taps = np.ascontiguousarray(taps, like=taps)  # without like=, CuPy refuses
            part = y[:, :, rows, columns]
            if stride == 1:
                _correlate(g, taps, None, 1, (above, before), part)
            elif part.size:
                _correlate(wide[:, :, m - above :, m - before :], taps, None, 1, (0, 0), part)
    return y.reshape(*lead, n, *image, c)


def _remainders(kernel, stride, pad):
    """Yield for each remainder: image rows, kernel rows in reverse, rows to pad before g.

    A negative number of rows to pad says how many rows of g to skip.
    """
    for remainder in range(min(stride, kernel)):
        first = (remainder - pad) % stride
        taps = len(range(remainder, kernel, stride))
        last = remainder + (taps - 1) * stride
        before = taps - 1 - (first + pad - remainder) // stride
        yield slice(first, None, stride), slice(last, None, -stride), before


def _weight_grad_forward(x, g, image, kernel, stride, padding, out=None):
    """The weight gradient: patches^T @ g."""
    lead = np.broadcast_shapes(x.shape[:-4], g.shape[:-4])
    x, g = task_axis(lead, x, 4), task_axis(lead, g, 4)
    c, o = x.shape[-1], g.shape[-1]
    y = _room((len(x), kernel[0] * kernel[1] * c, o), g, out)
    before = (padding[0][0], padding[1][0])
    for t, i, rows in _patches(x, kernel, stride, before, g.shape[2:4]):
        gi = g[t, i].reshape(*rows.shape[:2], o)
        if i.start == 0:
            np.matmul(rows.swapaxes(-1, -2), gi, out=y[t])
        else:
            y[t] += rows.swapaxes(-1, -2) @ gi
    return y.reshape(*lead, *kernel, c, o)


_conv2d, _transpose = three_ops(
    _conv2d_forward, _input_grad_forward, _weight_grad_forward, "conv2d"
)


def conv2d(x, weight, bias=None, stride: int = 1, padding: str = "same"):
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
    arrays, options = arguments(x, weight, bias, stride, padding)
    return _conv2d(*arrays, **options)


def conv2d_transpose(x, weight, bias=None, stride: int = 1, padding: str = "same"):
    """Apply the transpose of a convolution, which enlarges images ``stride`` times.

    ``(n,p,q,i),(k,l,o,i),(o)->(n,h,w,o)``, broadcast over all leading axes. Every pixel of x puts
    its multiple of the weight into the result. It is the op that gives conv2d's input gradient.

    Parameters
    ----------
    x : Tensor or array, shape (..., n, p, q, i)
    weight : Tensor or array, shape (..., k, l, o, i)
        That of the convolution from o to i channels of which this is the transpose.
    bias : Tensor or array, shape (..., o), optional
    stride : int
    padding : {"same", "valid"}
        That of the convolution. "same": the result is stride * p high; "valid":
        stride * (p - 1) + k.

    Raises
    ------
    ValueError
        If the shapes do not fit; the sentence names them.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_transpose(np.ones((1, 4, 4, 3)), np.ones((2, 2, 8, 3)), stride=2).shape
    (1, 8, 8, 8)
    """
    if x.ndim < 4 or weight.ndim < 4 or x.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"conv2d_transpose takes images (..., n, p, q, i) and a weight (..., k, l, o, i), "
            f"but was given shapes {x.shape} and {weight.shape}"
        )
    (k, l, o, _), sides = weight.shape[-4:], x.shape[-3:-1]
    image = [
        stride * n if padding == "same" else stride * (n - 1) + m for n, m in zip(sides, (k, l))
    ]
    result = np.broadcast_to(np.float32(0), (1, *image, o))  # its shape is all that is asked for
    _, options = arguments(result, weight, None, stride, padding)
    y = _transpose(*same_dtype(x, weight), **options)
    return y if bias is None else y + reshape(bias, (*bias.shape[:-1], 1, 1, 1, o))


def _windows(x, size):
    """Return the size^2 views of x that hold the first, second ... element of every window."""
    h, w = x.shape[-3] // size * size, x.shape[-2] // size * size
    return [x[..., a:h:size, b:w:size, :] for a in range(size) for b in range(size)]


def _max_pool2d(x, size: int = 2):
    """Take the maximum of every ``size`` x ``size`` window of channels-last images.

    ``(n,h,w,c)->(n,h//size,w//size,c)``; rows and columns that fill no window are dropped. Among
    equal elements the first takes the whole gradient.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.ops.max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    h, w = x.shape[-3:-1]
    if min(h, w) < size:
        raise ValueError(f"max_pool2d: images of {h} x {w} are smaller than {size} x {size}")
    first, *rest = _windows(x, size)
    y = first.copy()
    index = np.zeros(y.shape, np.min_scalar_type(size * size - 1), like=y)
    for k, part in enumerate(rest, 1):
        # unsigned numbers wrap round, so a step back works too
        index += (part > y) * (index.dtype.type(k) - index)
        np.maximum(y, part, out=y)
    return y, index


def _max_pool2d_gather(x, index, image, size):
    """Return the element of each window that ``index`` names."""
    first, *rest = _windows(x, size)
    y = _keep(first, index == 0)
    for k, part in enumerate(rest, 1):
        y += _keep(part, index == k)
    return y


def _max_pool2d_scatter(h, index, image, size, out=None):
    """Put every element of h in its window, at the place that ``index`` names, among zeros."""
    whole = all(n % size == 0 for n in image)
    y = _room((*h.shape[:-3], *image, h.shape[-1]), h, out)
    if not whole:  # what does not fill a window gets no gradient
        y[...] = 0
    for k, part in enumerate(_windows(y, size)):
        part[...] = _keep(h, index == k)
    return y


max_pool2d = op(
    _max_pool2d,
    "x",
    lambda g, x_like, saved, size: _scatter(g, saved, image=x_like.shape[-3:-1], size=size),
)
_gather = op(_max_pool2d_gather, "x index", lambda g, index, **at: _scatter(g, index, **at), None)
_scatter = op(_max_pool2d_scatter, "h index", lambda g, index, **at: _gather(g, index, **at), None)
