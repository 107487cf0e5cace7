"""How much memory a recorded graph keeps."""

from collections import Counter
from dataclasses import dataclass

from ..engine.structure import leaves
from ..engine.tensor import Tensor, ancestors

#: Ops whose result may be a view of their first argument.
VIEWS = ("broadcast_to", "getitem", "reshape", "transpose")


@dataclass(frozen=True, repr=False)
class GraphMemory:
    """What :func:`graph_memory` found, in bytes; printed, it is a table.

    Attributes
    ----------
    by_op : dict of str to int
        Results of ops, by the op that made them; the largest first.
    constants : int
        Arrays that require no gradient: data, labels, and masks that derivatives made.
    leaves : int
        Tensors that require a gradient: the parameters.
    """

    by_op: dict
    constants: int
    leaves: int

    @property
    def results(self) -> int:
        """Bytes of all results of ops."""
        return sum(self.by_op.values())

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return self.results + self.constants + self.leaves

    def __repr__(self):
        rows = [("results of ops", self.results)]
        rows += [(f"  {name}", size) for name, size in self.by_op.items()]
        rows += [("constants", self.constants), ("leaves", self.leaves), ("total", self.total)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}} {_size(size):>10}" for name, size in rows)


def graph_memory(outputs: Tensor | list | tuple | dict) -> GraphMemory:
    """Count the bytes of the arrays that tensors and the graph behind them keep alive.

    An array counts once, however often it is used, and a view counts as its array.
    Python's own objects, some hundred bytes for every op, are not counted.

    Parameters
    ----------
    outputs : Tensor, or list, tuple or dict of them

    Returns
    -------
    GraphMemory

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> x = tm.tensor(np.ones(1000), requires_grad=True)
    >>> tm.graph_memory(np.sum(np.exp(np.sin(x))))
    results of ops    8.01 kB
      exp             8.00 kB
      sum                 8 B
    constants             0 B
    leaves            8.00 kB
    total            16.01 kB

    The derivative of ``exp`` keeps its result, and that of ``sin`` its argument.

    What each inner step of MAML adds:

    >>> model = tm.nn.mlp((1, 40, 40, 1))
    >>> params = model.init(np.random.default_rng(0))
    >>> batch = tm.Batch(np.ones((25, 10, 1), "f4"), np.ones((25, 10, 1), "f4"))
    >>> loss = lambda params, x, y: tm.nn.mse_loss(model(params, x), y)
    >>> for steps in range(4):
    ...     value = tm.maml.meta_loss(loss, params, tm.Task(batch, batch), lr=0.01, steps=steps)
    ...     print(f"{steps} steps: {tm.graph_memory(value).total / 1e6:.1f} MB")
    0 steps: 0.1 MB
    1 steps: 0.4 MB
    2 steps: 0.7 MB
    3 steps: 1.0 MB
    """
    tensors = leaves(outputs)
    for t in tensors:
        if type(t) is not Tensor:
            raise TypeError(f"graph_memory takes tensors, not {type(t).__name__}")
    nodes = ancestors([t.node for t in tensors if t.node is not None])
    found = [(t.node, t.data) for t in tensors]
    for node in nodes:
        found.append((node, node.y))
        found += [(a.node, a.data) if type(a) is Tensor else (None, a) for a in node.args]
        if node.op is not None:
            found += [(node, a) for a in leaves(node.saved)]
    parameters = {id(_owner(node.array())) for node in nodes if node.op is None}
    # a result that is detached is found as a constant too
    found.sort(key=lambda pair: pair[0] is None)
    counted, by_op, others = set(), Counter(), Counter()
    for node, array in found:
        owner = _owner(array)
        if id(owner) in counted or not hasattr(array, "nbytes"):
            continue
        counted.add(id(owner))
        if id(owner) in parameters:
            others["leaves"] += owner.nbytes
        elif node is None:
            others["constants"] += owner.nbytes
        else:
            by_op[_maker(node, array)] += owner.nbytes
    return GraphMemory(dict(by_op.most_common()), others["constants"], others["leaves"])


def _maker(node, array):
    """Return the name of the op that made an array: of a view, the op before those that view."""
    if _owner(array) is not array:
        while node.op.name in VIEWS and node.parents[0].op is not None:
            node = node.parents[0]
    return node.op.name


def _owner(array):
    """Return the array that holds the memory of a view."""
    owner = array
    while (array := getattr(array, "base", None)) is not None:
        if hasattr(array, "nbytes"):
            owner = array
    return owner


def _size(n):
    """Return a number of bytes in words."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= factor:
            return f"{n / factor:.2f} {unit}"
    return f"{n} B"
