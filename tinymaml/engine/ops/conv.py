"""Convolution and pooling of channels-last images in their plain form.

Convolution is linear in the image and in the weight, so it is three ops closed under
differentiation: conv2d, its input gradient and its weight gradient; each one's derivatives are
the other two. What runs is the same three in blocks: ``ops/fast/conv.py``.
"""

import numpy as np

from ..op import op
from .linalg import sum_batch
from .reduction import max, mean
from .shape import getitem, reshape, same_dtype


def same_padding(size, kernel, stride):
    """Return the padding (before, after) that makes the output ceil(size / stride) long.

    As TensorFlow pads: one more after than before if the total is odd.

    Examples
    --------
    >>> same_padding(28, 3, 2), same_padding(7, 3, 2), same_padding(7, 3, 1)
    ((0, 1), (1, 1), (1, 1))
    """
    total = -(-size // stride) * stride - stride + kernel - size
    return (total // 2, total - total // 2) if total > 0 else (0, 0)


def arguments(x, weight, bias, stride, padding):
    """Return the arrays in one dtype and the options of the op, or say what does not fit."""
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
    if not isinstance(stride, (int, np.integer)) or stride < 1:
        raise ValueError(f"conv2d: stride is {stride!r}; it must be a whole number from 1 on")
    if padding not in ("same", "valid"):
        raise ValueError(f"conv2d: padding is {padding!r}; choose 'same' or 'valid'")
    kernel, size = weight.shape[-4:-2], x.shape[-3:-1]
    pads = ((0, 0), (0, 0))
    if padding == "same":
        pads = tuple([same_padding(n, k, stride) for n, k in zip(size, kernel)])
    elif size[0] < kernel[0] or size[1] < kernel[1]:
        raise ValueError(f"conv2d: the kernel {kernel} is larger than the image {size}")
    arrays = (*same_dtype(x, weight), None) if bias is None else same_dtype(x, weight, bias)
    return arrays, {"image": size, "kernel": kernel, "stride": stride, "padding": pads}


def three_ops(conv2d, input_grad, weight_grad, name):
    """Return two of the three ops of a convolution, closed under differentiation.

    They are the convolution and its input gradient, which is also the transposed convolution.
    ``how`` is in all three: the sizes of image and kernel, stride and padding.
    """
    conv = op(
        conv2d,
        "x weight bias",
        lambda g, weight, **how: of_input(g, weight, **how),
        lambda g, x, **how: of_weight(x, g, **how),
        lambda g: sum_batch(g, 4),
        name=name,
    )
    of_input = op(
        input_grad,
        "h weight",
        lambda g, weight, **how: conv(g, weight, None, **how),
        lambda g, h, **how: of_weight(g, h, **how),
        name=f"{name}_input_grad",
    )
    of_weight = op(
        weight_grad,
        "x h",
        lambda g, h, **how: of_input(h, g, **how),
        lambda g, x, **how: conv(x, g, None, **how),
        name=f"{name}_weight_grad",
    )
    return conv, of_input


def out_size(image, kernel, stride, padding):
    """Return height and width of the result."""
    return [(n + sum(pad) - k) // stride + 1 for n, pad, k in zip(image, padding, kernel)]


def _patches(x, kernel, stride, padding):
    """Return the patches of images that the kernel meets: (..., n, p, q, c, k, l)."""
    x = np.pad(x, [(0, 0)] * (x.ndim - 3) + [*padding, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (-3, -2))
    return windows[..., ::stride, ::stride, :, :, :]


def _conv2d(x, weight, bias, image, kernel, stride, padding):
    """y[n, p, q] = patch (n, p, q) of x times the weight, plus the bias"""
    patches = _patches(x, kernel, stride, padding)
    y = np.einsum("...npqckl,...klco->...npqo", patches, weight)
    return y if bias is None else y + bias[..., None, None, None, :]


def _input_grad(h, weight, image, kernel, stride, padding):
    """Every pixel of a patch gets its share of h: h times the weight that it met, transposed."""
    (high, wide), (k, l), (p, q) = image, kernel, h.shape[-3:-1]
    (top, bottom), (left, right) = padding
    lead = np.broadcast_shapes(h.shape[:-4], weight.shape[:-4])
    padded = (*lead, h.shape[-4], top + high + bottom, left + wide + right, weight.shape[-2])
    y = np.zeros(padded, h.dtype, like=h)
    for i in range(k):
        for j in range(l):
            met = y[..., i : i + p * stride : stride, j : j + q * stride : stride, :]
            met += np.einsum("...npqo,...co->...npqc", h, weight[..., i, j, :, :])
    return y[..., top : top + high, left : left + wide, :]


def _weight_grad(x, h, image, kernel, stride, padding):
    """The sum over all patches of patch times h"""
    return np.einsum("...npqckl,...npqo->...klco", _patches(x, kernel, stride, padding), h)


_conv, _ = three_ops(_conv2d, _input_grad, _weight_grad, "conv2d_plain")


def conv2d(x, weight, bias=None, stride=1, padding="same"):
    """Cross-correlate: see :func:`tinymaml.ops.conv2d`, which is the same and faster."""
    arrays, options = arguments(x, weight, bias, stride, padding)
    return _conv(*arrays, **options)


def _windows(x, size):
    """Return the windows of a pool, (..., p, size, q, size, c), without what does not fill one."""
    *lead, h, w, c = x.shape
    p, q = h // size, w // size
    if (h, w) != (p * size, q * size):
        x = getitem(x, (..., slice(p * size), slice(q * size), slice(None)))
    return reshape(x, (*lead, p, size, q, size, c))


def max_pool2d(x, size=2):
    """Take the maximum of every window: see :func:`tinymaml.ops.max_pool2d`, which is faster.

    Here equal elements share the gradient.
    """
    return max(_windows(x, size), axis=(-4, -2))


def mean_pool2d(x, size: int = 2):
    """Take the mean of every ``size`` x ``size`` window of channels-last images.

    ``(n,h,w,c)->(n,h//size,w//size,c)``; rows and columns that fill no window are dropped.

    Examples
    --------
    >>> import numpy as np
    >>> mean_pool2d(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    return mean(_windows(x, size), axis=(-4, -2))
