"""Proof that derivatives are right: against finite differences, and against other numbers.

Every check that fails says which op is to blame: it runs the function once more with the engine's
trace on, and then tries every op that ran by itself, at the very inputs it had.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..engine import backend
from ..engine.func import _gradients
from ..engine.structure import leaves, match, names, rebuild
from ..engine.tensor import Tensor, raw, tensor, thread


class GradientError(AssertionError):
    """A derivative disagrees with finite differences."""


class Mismatch(NamedTuple):
    """Where a derivative and finite differences disagree."""

    where: str
    analytic: float
    numeric: float

    def __str__(self):
        return f"{self.where}: {self.analytic:.8g} analytic, {self.numeric:.8g} numeric"


def gradcheck(
    f: Callable, inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3
) -> bool:
    """Compare the derivative of f with central differences.

    The outputs are weighted with random cotangents, the same in every run; every element of an
    input is varied, or 10 random directions if it has more than 300. The derivative is taken on raw
    arrays, recorded, and for some of the inputs (each by itself, all but one, and of up to four
    inputs any) alone. At a kink, such as that of relu, it has to lie
    between the differences to either side.

    Parameters
    ----------
    f : function
        Of tensors; its result may be a structure of tensors of any shape.
    inputs : array, Tensor or structure; or a tuple of such
        A tuple holds the positional arguments. Every float array must be float64 and is
        differentiated; anything else is passed on as it is.
    eps : float
        Step of the differences, relative to the largest element of the input; where they disagree,
        other steps are tried too.
    atol, rtol : float
        The two numbers may differ by ``rtol`` of the numeric one and by ``atol`` of the largest
        derivative with respect to the same input.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradientError
        If they differ; the sentence has both numbers and names the op that is wrong by itself.
    TypeError
        If an input is not float64, or none is to be differentiated, or f gives no float.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.gradcheck(np.tanh, np.array([0.1, 0.2]))
    True
    >>> wrong = tm.op(np.sinh, "x", lambda g, y: g * y, name="wrong")
    >>> tm.gradcheck(lambda x: np.exp(wrong(x)), np.array(1.0))
    Traceback (most recent call last):
    ...
    tinymaml.checks.gradients.GradientError: gradcheck, inputs: 4.3275436 analytic, 5.6822174 \
numeric. The culprit is op 'wrong': its derivative is wrong (argument 0: 1.3361587 analytic, \
1.7544236 numeric)
    """
    call, arrays, where = _prepare(f, inputs)
    wrong = _first_wrong(call, call, arrays, where, eps, atol, rtol)
    if wrong:
        raise GradientError(f"gradcheck, {wrong}. {_blame(call, arrays, False)}")
    return True


def gradgradcheck(
    f: Callable, inputs, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3
) -> bool:
    """Compare the second derivative of f with central differences of the first.

    Checks the function (inputs, cotangents of the outputs) -> gradients, with respect to both. The
    first derivative must be right already: see :func:`gradcheck`, whose parameters and errors
    these are. What this finds above all is a derivative that captures an array of the forward
    pass, so that it does not know that the array depends on the input.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tm.gradgradcheck(np.matmul, (np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])))
    True
    """
    call, arrays, where = _prepare(f, inputs)
    wrong = _second_wrong(call, arrays, where, eps, atol, rtol)
    if wrong:
        raise GradientError(f"gradgradcheck, {wrong}. {_blame(call, arrays, True)}")
    return True


def _prepare(f, inputs):
    """Return f as a function of its float inputs alone, their values, and their names."""
    arguments = inputs if type(inputs) is tuple else (inputs,)
    flat = leaves(arguments)
    varied = [i for i, leaf in enumerate(flat) if is_float(leaf)]
    arrays = [host(flat[i]) for i in varied]
    labels = names(inputs)
    where = [f"inputs{labels[i]}" for i in varied]
    for name, array in zip(where, arrays):
        if array.dtype != np.float64:
            raise TypeError(
                f"{name} is {array.dtype.name}, which is too coarse for finite differences; "
                "give float64"
            )
    if not arrays:
        raise TypeError("there is nothing to differentiate: no input is a float64 array")

    def call(*tensors):
        filled = dict(zip(varied, tensors))
        return f(*rebuild(arguments, iter([filled.get(i, x) for i, x in enumerate(flat)])))

    if any(a.size for a in arrays) and not any(np.size(y) for y in run(call, arrays)[1]):
        raise TypeError(
            "there is nothing to differentiate: the function gives no floating-point number"
        )
    return call, arrays, where


def is_float(leaf):
    return isinstance(leaf, float) or getattr(getattr(leaf, "dtype", None), "kind", None) == "f"


def host(leaf):
    return np.asarray(backend.to_numpy(raw(leaf)))


def run(call, arrays):
    """Return fresh tensors of the arrays, and the float results of ``call`` on them."""
    xs = [tensor(a, requires_grad=True) for a in arrays]
    return xs, [y for y in leaves(call(*xs)) if is_float(y)]


def _cotangents(ys, rng):
    """Return a random cotangent for each result, with no element so small that it hides errors."""
    return [rng.uniform(0.5, 1.5, np.shape(y)) * rng.choice([-1, 1], np.shape(y)) for y in ys]


def directions(x, few, n, rng):
    """Yield (label, direction) along which to vary x: its elements, or n at random if not few."""
    if x.size > few:
        for k in range(n):
            yield f", random direction {k}", rng.standard_normal(x.shape)
        return
    for index, direction in zip(np.ndindex(x.shape), np.eye(x.size)):
        yield f"[{', '.join(map(str, index))}]" if index else "", direction.reshape(x.shape)


def _first_wrong(call, numeric, arrays, where, eps=1e-6, atol=1e-5, rtol=1e-3):
    """Return the first mismatch of the derivative of ``call`` and differences of ``numeric``."""
    rng = np.random.default_rng(0)
    xs, ys = run(call, arrays)
    us = _cotangents(ys, rng)
    # as it runs on raw arrays, as it is recorded, and where not all arguments are needed
    n, analytic = len(xs), [[] for _ in xs]
    sizes = range(1, n) if n <= 4 else (1, n - 1)
    some = [subset for k in sizes for subset in itertools.combinations(range(n), k)]
    for subset, recorded in ((range(n), False), (range(n), True), *((s, False) for s in some)):
        for i, g in zip(subset, _gradients(ys, [xs[i] for i in subset], us, recorded)):
            analytic[i].append(host(g))
    size = sum(float(np.sum(np.abs(u * host(y)))) for u, y in zip(us, ys))

    def objective(i, moved):
        _, ys = run(numeric, [*arrays[:i], moved, *arrays[i + 1 :]])
        return sum(float(np.sum(u * host(y))) for u, y in zip(us, ys))

    here = objective(0, arrays[0])
    for i, x in enumerate(arrays):
        scale = np.abs(x).max(initial=0) or 1
        largest = max(float(np.abs(g).max(initial=0)) for g in analytic[i])
        for label, v in directions(x, 300, 10, rng):
            products = {float(np.sum(g * v)) for g in analytic[i]}
            wrong, gap, before = None, 0, math.inf
            for h in (eps * scale, eps, eps * scale / 10, eps * scale / 100):
                left = (here - objective(i, x - h * v)) / h
                right = (objective(i, x + h * v) - here) / h
                central, noise = (left + right) / 2, 1e-14 * size / h + 1e-30
                if noise > rtol * max(largest, abs(central), gap) and noise > abs(central):
                    continue  # rounding errors drown the differences
                allowed = atol * largest + rtol * abs(central) + noise
                kink = 0
                if h == eps * scale / 100:  # where it jumps, the slope grows like 1 / h
                    kink = math.inf if abs(central) > 5 * before else abs(right - left) / 2
                outside = [p for p in products if not abs(p - central) <= allowed + kink]
                if not outside:
                    wrong = None
                    break
                wrong = wrong or Mismatch(where[i] + label, outside[0], central)
                gap, before = abs(wrong.analytic - wrong.numeric), abs(central)
            if wrong:
                return wrong
    return None


def _second_wrong(call, arrays, where, *tolerance):
    """Return the first mismatch of the second derivative and differences of the first."""
    n = len(arrays)
    us = _cotangents(run(call, arrays)[1], np.random.default_rng(1))

    def first_derivative(create_graph):
        def gradients(*tensors):
            xs, us = tensors[:n], tensors[n:]
            ys = [y for y in leaves(call(*xs)) if is_float(y)]
            return _gradients(ys, xs, us, create_graph)

        return gradients

    # Differences are taken of the derivative as it runs on raw arrays, so that an op whose
    # derivative has one form for those and another for tensors is caught if the two disagree.
    where = where + [f"grad_outputs[{k}]" for k in range(len(us))]
    taped, plain = first_derivative(True), first_derivative(False)
    return _first_wrong(taped, plain, arrays + us, where, *tolerance)


def find_culprit(call, arrays, second):
    """Return which op that runs in ``call`` is wrong by itself, and how; None if none is.

    ``second`` asks for its second derivative too.
    """
    state = thread.state
    before, state.trace = state.trace, []
    try:
        run(call, arrays)
        trace = state.trace
    finally:
        state.trace = before
    for op, args, static, *_ in trace:
        varied = [i for i, a in enumerate(args) if type(a) is Tensor and a.requires_grad]
        # an argument that follows from the others would stay as it is while they vary
        if not varied or (op.derived and len(args) > len(op.names) - op.derived):
            continue

        def alone(*tensors, op=op, args=args, static=static, varied=varied):
            filled = dict(zip(varied, tensors))
            return op(*[filled.get(i, a) for i, a in enumerate(args)], **static)

        there = [host(args[i]).astype(float) for i in varied]
        where = [f"argument {i}" for i in varied]
        wrong = _first_wrong(alone, alone, there, where)
        if wrong:
            return f"op '{op.name}': its derivative is wrong ({wrong})"
        if second:
            wrong = _second_wrong(alone, there, where) or _stale(alone, there, where)
            if wrong:
                fault = "its second derivative is wrong, as if its derivative captures an array"
                return f"op '{op.name}': {fault} ({wrong})"
    return None


def _stale(call, arrays, where):
    """Return a mismatch of the first derivative close by, as of one made for these inputs only."""
    rng = np.random.default_rng(2)
    moved = [a * rng.uniform(0.95, 1.05, a.shape) for a in arrays]
    with np.errstate(all="ignore"):
        wrong = _first_wrong(call, call, moved, where)
    return wrong if wrong and np.isfinite(wrong.numeric) else None  # it may have left the domain


def _blame(call, arrays, second):
    culprit = find_culprit(call, arrays, second)
    if culprit:
        return f"The culprit is {culprit}"
    return (
        "Every op that ran is right by itself, so a value left the graph on the way, through "
        ".data, .numpy(), .item(), .detach() or a grad() without create_graph, and what depends "
        "on it is lost"
    )


class Comparison(NamedTuple):
    """How two sets of numbers differ; see :func:`compare`."""

    exact: bool
    close: bool
    max_abs: float
    max_rel: float


def compare(name: str, ours, reference) -> Comparison:
    """Print one row that says how far ``ours`` is from ``reference``.

    Parameters
    ----------
    name : str
        What is compared.
    ours, reference : array, Tensor, number, or dict, list or tuple of them
        Two structures with the same shapes; the order within a dict does not matter.

    Returns
    -------
    Comparison
        ``exact``: all numbers are equal; ``close``: ``np.allclose``; ``max_abs``: the largest
        difference of two elements; ``max_rel``: that, divided by the largest element of the
        reference, so that small elements next to large ones do not count for more than they are
        worth. Of several arrays, the worst of each.

    Raises
    ------
    ValueError
        If the structures or shapes differ.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> row = tm.compare("tanh'", 1 - np.tanh(0.5) ** 2, 0.7864)
    tanh'                            exact: no   close: no   max abs: 4.8e-05  max rel: 6.1e-05
    """
    rows = []
    matched = match(ours, reference, f"{name}: the reference")
    for label, a, b in zip(names(ours), map(host, leaves(ours)), map(host, matched)):
        if a.shape != b.shape:
            raise ValueError(f"{name}{label} has shape {a.shape}, but the reference has {b.shape}")
        largest = np.max(np.abs(b), initial=0)
        difference = np.max(np.abs(a - b), initial=0)
        relative = difference / largest if largest else difference
        rows.append((np.array_equal(a, b), np.allclose(a, b), difference, relative))
    exact, close, absolute, relative = zip(*rows)
    worst = Comparison(all(exact), all(close), float(max(absolute)), float(max(relative)))
    print(
        f"{name:<32} exact: {'yes' if worst.exact else 'no':<4} "
        f"close: {'yes' if worst.close else 'no':<4} "
        f"max abs: {worst.max_abs:<8.1e} max rel: {worst.max_rel:.1e}"
    )
    return worst
