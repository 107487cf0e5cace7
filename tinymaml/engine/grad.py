"""grad(): the walk back through the graph."""

import contextlib
import itertools
from operator import attrgetter

import numpy as np

from .backend import asarray
from .ops import sum_to
from .structure import leaves, match, names, rebuild
from .tensor import Tensor, recording, thread


def grad(
    outputs, inputs, grad_outputs=None, create_graph: bool = False, allow_unused: bool = False
):
    """Differentiate outputs with respect to inputs.

    Parameters
    ----------
    outputs : Tensor, or list, tuple or dict of them
        What is differentiated; their cotangents are summed.
    inputs : Tensor, or list, tuple or dict of them
        With respect to what; leaves or any tensor on the way.
    grad_outputs : as ``outputs``, optional
        The cotangent of each output, of its shape, in dicts by key; 1 for a scalar by default.
    create_graph : bool
        Record the derivative, so that it can be differentiated in turn.
    allow_unused : bool
        Give None for an input that the outputs do not depend on, where otherwise that is an error.

    Returns
    -------
    as ``inputs``
        The gradients, each of its input's shape and dtype. Nothing is written into any tensor.
        Without ``create_graph`` each has memory of its own, which may be written into.

    Raises
    ------
    ValueError
        If an output is no scalar and has no cotangent, ``grad_outputs`` has another form or shape,
        an input is unused, or an input or output does not require a gradient; the sentence names
        which.

    Examples
    --------
    >>> import tinymaml as tm
    >>> x = tm.tensor(3.0, requires_grad=True)
    >>> first = tm.grad(x**3, x, create_graph=True)
    >>> first.item(), tm.grad(first, x).item()
    (27.0, 18.0)
    """
    targets = _tensors(inputs, "inputs")
    # a program is made of ops alone, so tensors are walked back with, be they recorded or not
    program = getattr(thread.state.trace, "walks_back", None)
    as_tensors = create_graph or program is not None
    seeds = _seeds(outputs, grad_outputs, as_tensors)
    with (
        recording(create_graph, in_derivative=create_graph),
        program(leaves(outputs)) if program else contextlib.nullcontext(),
    ):
        cotangents = _walk_back(seeds, [t.node for t in targets], as_tensors)
    gradients = []
    taken = set() if grad_outputs is None else {_memory(g) for _, g in seeds}
    for i, target in enumerate(targets):
        g = cotangents.get(target.node)
        if g is None and not allow_unused:
            raise ValueError(
                f"inputs{names(inputs)[i]} of shape {target.shape} is not used by the outputs, "
                "so its gradient is zero; leave it out, or pass allow_unused=True to get None"
            )
        if isinstance(g, np.generic):  # NumPy makes scalars of 0-d results
            g = np.asarray(g)
        elif g is not None and not as_tensors:
            g = _writable(g, taken)
        gradients.append(g if g is None or type(g) is Tensor else Tensor(g))
    return rebuild(inputs, iter(gradients))


def _writable(g, taken):
    """Return g, or a copy if writing into it would fail, or show elsewhere.

    ``taken`` is the memory that others hold: a derivative may hand on its cotangent as it is, or a
    view of it, so that two gradients, or a gradient and a cotangent of the user's, share memory.
    """
    memory = _memory(g)
    # CuPy has no read-only arrays: there a broadcast array is known by its strides alone.
    if memory in taken or 0 in g.strides or not getattr(g.flags, "writeable", True):
        return g.copy()
    taken.add(memory)
    return g


def _memory(array):
    """Return what identifies the memory of an array: the id of the array that it is a view of."""
    base = getattr(array, "base", None)
    return id(array if base is None else base)


def _walk_back(seeds, inputs, as_tensors):
    """Return the cotangents, by node, of the inputs that the seeds' nodes depend on.

    ``seeds`` are pairs of a node and its cotangent. A cotangent is a raw array, or ``as_tensors``
    a tensor: the derivative expressions are the same for both.
    """
    needed_parents = _needed(seeds, inputs)
    keep = set(inputs)
    cotangents, owned = {}, set()
    program = thread.state.trace if hasattr(thread.state.trace, "walks_back") else None

    def add(node, g, op=None, i=0):
        a = g.data if type(g) is Tensor else g
        try:
            fits = a.shape == node.shape and a.dtype == node.dtype
        except AttributeError:  # it is no array
            fits = False
        if not fits:
            g = _fitted(g, node, op, i)
        if program:
            program.cotangent(g, node)
        before = cotangents.get(node)
        if before is None:
            cotangents[node] = g
        elif as_tensors or node.shape == ():
            cotangents[node] = before + g
        elif node in owned and before.strides == g.strides:
            # the sum is our own array, so it may be changed in place; of other strides a sum has
            # a layout of its own, on which the last bits of what is made of it depend
            np.add(before, g, out=before)
        else:
            cotangents[node] = before + g
            owned.add(node)

    for node, g in seeds:
        if node in needed_parents:
            add(node, g)
    for node, parents in reversed(needed_parents.items()):
        g = cotangents.get(node) if node in keep else cotangents.pop(node, None)
        if g is None or node.op is None:
            continue
        if program:
            program.through(node)
        op = node.op
        known = op.known(node, g, parents, as_tensors)
        if op.joint:
            for i, (parent, g) in enumerate(zip(parents, op.vjps[0](*op.picks[0](known)))):
                if parent is not None:
                    add(parent, g, op, i)
            continue
        for i, (parent, vjp, pick) in enumerate(zip(parents, op.vjps, op.picks)):
            if parent is not None and vjp is not None:
                add(parent, vjp(*pick(known)), op, i)
    return cotangents


def _fitted(g, node, op, i):
    """Return the cotangent of an argument in its shape and dtype, or say why that cannot be."""
    shape, wanted = getattr(g, "shape", None), node.shape
    if shape is not None and len(shape) >= len(wanted):
        last = shape[len(shape) - len(wanted) :]
        if last == wanted or all(n in (1, m) for n, m in zip(wanted, last)):
            g = sum_to(g, wanted)
            return g if g.dtype == node.dtype else g.astype(node.dtype)
    what = type(g).__name__ if shape is None else f"shape {shape}"
    raise TypeError(
        f"op {op.name!r}: its derivative for {op.names[min(i, len(op.names) - 1)]!r} gave {what}, "
        f"but the cotangent of that argument needs shape {wanted}, or one broadcast from it"
    )


_by_age = attrgetter("order")


def _needed(seeds, inputs):
    """Return the nodes between the seeds and the inputs, oldest first: a dict to their parents.

    Of the parents, those that lead to no input are None.
    Nodes made before the oldest input cannot depend on any, so the search stops there: the inner
    gradient of MAML's step k does not walk through steps 1 to k - 1.
    """
    oldest = min((node.order for node in inputs), default=0)
    stack = [node for node, _ in seeds if node.order >= oldest]
    found = set(stack)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in found and parent.order >= oldest:
                found.add(parent)
                stack.append(parent)
    needed = {None, *inputs}
    needed_parents = {}
    for node in sorted(found, key=_by_age):
        parents = node.parents
        if not needed.issuperset(parents):
            parents = [parent if parent in needed else None for parent in parents]
        if any(parents) or node in needed:
            needed.add(node)
            needed_parents[node] = parents
    return needed_parents


def _tensors(structure, what):
    """Return the tensors of a structure, each of which must require a gradient."""
    tensors = leaves(structure)
    for i, tensor in enumerate(tensors):
        if type(tensor) is not Tensor:
            name = what + names(structure)[i]
            raise TypeError(f"{name} is {type(tensor).__name__}, but grad needs a Tensor")
        if tensor.node is None:
            raise ValueError(
                f"{what}{names(structure)[i]} of shape {tensor.shape} does not require a gradient; "
                "make it with tm.tensor(..., requires_grad=True), outside tm.no_grad(), and do not "
                "detach it"
            )
    return tensors


def _seeds(outputs, grad_outputs, as_tensors):
    """Return the (node, cotangent) pairs that the walk starts from."""
    tensors, seeds, given = _tensors(outputs, "outputs"), [], itertools.repeat(None)
    if grad_outputs is not None:
        given = match(outputs, grad_outputs, "grad_outputs")
    for i, (y, g) in enumerate(zip(tensors, given)):
        if g is None:
            if y.shape != ():
                raise ValueError(
                    f"outputs{names(outputs)[i]} has shape {y.shape}, not a scalar's (); "
                    "sum it, or pass grad_outputs of that shape"
                )
            g = Tensor(np.ones_like(y.data))
        elif np.shape(g) != y.shape:
            raise ValueError(
                f"grad_outputs{names(outputs)[i]} has shape {np.shape(g)}, but its output has "
                f"shape {y.shape}"
            )
        if type(g) is not Tensor:
            g = Tensor(asarray(g, y.dtype))
        seeds.append((y.node, g if as_tensors else g.data))
    return seeds
