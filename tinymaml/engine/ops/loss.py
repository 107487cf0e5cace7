"""Losses, fused, and the gradient step of the inner loop.

A loss averages over the examples of one task: its leading axes remain, one number per task.
"""

from numbers import Real

import numpy as np

from ..op import as_arrays, op
from .reduction import softmax
from .shape import broadcast_to, reshape


def _one_hot(labels, classes):
    """Labels (..., n) as rows (..., n, classes) of False and a True."""
    return labels[..., None] == np.arange(classes, like=labels)


def check_range(name, labels, classes, what):
    """Say of labels on the host that they are not from 0 to classes - 1."""
    if isinstance(labels, np.ndarray) and labels.size:  # a GPU would have to wait for the answer
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"{name}: labels reach from {labels.min()} to {labels.max()}, "
                f"but {classes} {what} need 0 to {classes - 1}"
            )


def _cross_entropy_forward(logits, labels):
    classes = logits.shape[-1]
    check_range("cross_entropy", labels, classes, "logits")
    # the largest is taken off first of all, lest small differences cancel
    logits = logits - logits.max(-1, keepdims=True)
    picked = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    return (np.log(np.exp(logits).sum(-1)) - picked).mean(-1)


def _per_example(g, n):
    """Spread the cotangent of a mean over n examples: (...) -> (..., 1, 1)."""
    return reshape(g * (1 / (n or 1)), (*g.shape, 1, 1))


one_hot = op(_one_hot, "labels", None)


def _cross_entropy_vjp(g, logits, labels):
    """(softmax - one-hot) / n"""
    wrong = softmax(logits) - one_hot(labels, classes=logits.shape[-1])
    return _per_example(g, logits.shape[-2]) * wrong


_cross_entropy = op(
    _cross_entropy_forward, "logits labels", _cross_entropy_vjp, None, name="cross_entropy"
)


def _mse_forward(prediction, target):
    d = prediction - target
    return np.einsum("...ij,...ij->...", d, d) / (prediction.shape[-1] * prediction.shape[-2])


_mse = op(
    _mse_forward,
    "p t",
    lambda g, p, t: _per_example(g, p.shape[-1] * p.shape[-2] / 2) * (p - t),
    lambda g, p, t: _per_example(g, p.shape[-1] * p.shape[-2] / 2) * (t - p),
    name="mse",
)


def cross_entropy(logits, labels):
    """Mean cross-entropy of integer labels.

    ``(n,k),(n)->()``, broadcast over leading axes: one number per task.

    Parameters
    ----------
    logits : Tensor or array, shape (..., n, k)
        Scores before the softmax.
    labels : integer Tensor or array, shape (..., n)
        In 0 .. k - 1.

    Raises
    ------
    ValueError
        If the labels are not integers, are of another shape, or (on NumPy alone) are out of range.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy(np.zeros((3, 2)), np.array([0, 1, 1])).round(4)
    np.float64(0.6931)
    """
    logits, labels = as_arrays((logits, labels))
    examples = logits.shape[-2:-1]
    if labels.dtype.kind not in "iu" or logits.ndim < 2 or labels.shape[-1:] != examples:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} need integer labels of shape "
            f"{logits.shape[:-1]}, but they are {labels.dtype.name} of shape {labels.shape}"
        )
    if labels.shape != logits.shape[:-1]:
        shape = np.broadcast_shapes(labels.shape, logits.shape[:-1])
        labels = broadcast_to(labels, shape)
        logits = broadcast_to(logits, (*shape, logits.shape[-1]))
    return _cross_entropy(logits, labels)


def mse(prediction, target):
    """Mean squared error over examples and outputs.

    ``(n,k),(n,k)->()``, broadcast over leading axes: one number per task.

    Raises
    ------
    ValueError
        If the last two axes differ.

    Examples
    --------
    >>> import numpy as np
    >>> mse(np.zeros((2, 1)), np.array([[1.0], [3.0]]))
    np.float64(5.0)
    """
    prediction, target = as_arrays((prediction, target))
    if prediction.ndim < 2 or prediction.shape[-2:] != target.shape[-2:]:
        raise ValueError(
            f"mse: prediction {prediction.shape} and target {target.shape} "
            "must agree in their last two axes (examples, outputs)"
        )
    return _mse(prediction, target)


def _descend_forward(p, g, *, lr):
    step = g * -lr
    step += p
    return step


_descend = op(_descend_forward, "p gradient", lambda g: g, lambda g, lr: g * -lr, name="descend")


def descend(p, g, lr):
    """One step of gradient descent, p - lr g, for a number ``lr``.

    Examples
    --------
    >>> import numpy as np
    >>> descend(np.array([1.0]), np.array([2.0]), 0.25)
    array([0.5])
    """
    # float() because a NumPy number would promote float32
    return _descend(p, g, lr=float(lr)) if isinstance(lr, (float, Real)) else p - lr * g
