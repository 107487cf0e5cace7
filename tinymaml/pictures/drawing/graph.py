"""The boxes in the picture of a graph: one for each tensor, or for several that are folded."""

import math
import textwrap
from collections import Counter
from itertools import groupby
from numbers import Real

import numpy as np

from ...engine.backend import to_numpy
from ...engine.structure import leaves
from ...engine.tensor import Node, Tensor, ancestors, raw
from .svg import BACKWARD, BOTH, CONSTANT, FORWARD, LEAF, Box

FEW = 4  # numbers of a tensor that are shown
CHEAP = 1000  # numbers of a tensor that are computed anew to be shown
LONGEST = 30  # characters in a line
LINES = 4  # that list what is folded
NO_BREAK = "\u00a0"
COMMUTATIVE = ("add", "multiply", "maximum", "minimum", "logaddexp", "hypot")
#: Signs for options of ops; none for options that the shapes show, or that change nothing.
SIGNS = {"at": "aᵀ", "bt": "bᵀ"} | dict.fromkeys(
    "shape core keepdims padding eps image kernel places".split(), ""
)
PHASES = {FORWARD: "forward", BACKWARD: "derivative", BOTH: "forward and derivative"}


class Graph:
    """The tensors that some outputs were made of.

    Each has a key: its node, or the id of its array if it is a constant.

    Parameters
    ----------
    outputs, names
        As :func:`tinymaml.draw` takes them.

    Attributes
    ----------
    ops : list of Node
        Oldest first.
    size : int
        How many boxes the whole graph needs.
    """

    def __init__(self, outputs, names):
        tensors = _checked(outputs, names)
        nodes = ancestors([t.node for t in tensors if t.node is not None])
        self.ops = [node for node in nodes if node.op is not None]
        self.leaves = {node for node in nodes if node.op is None}
        self.outputs = {_key(t): None for t in tensors}  # an ordered set
        self.arrays = {_key(t): t.data for t in tensors}
        for node in self.leaves:
            if (values := node.array()) is not None:
                self.arrays[node] = values
        self.arguments = {node: [] for node in self.ops}  # the keys of those that are arrays
        for node, keys in self.arguments.items():
            if node.y is not None:
                self.arrays[node] = node.y
            for parent, a in _pairs(node):
                if _is_array(a):
                    keys.append(parent or _key(a))
                    if type(a) is not Node:
                        self.arrays[keys[-1]] = raw(a)
        self.size = len(set(self.outputs).union(self.ops, *self.arguments.values()))
        self.names = {_key(t): "output " + ".".join(path) for path, t in _paths(outputs) if path}
        self.group = {}  # the first key of a name
        for path, value in _paths(names or {}):
            if hasattr(value, "shape"):
                key = _key(value)
                self.names[key], self.group[key] = ".".join(path), path[0]
                self.arrays[key] = raw(value)

    def boxes(self):
        """Return a box for every tensor, those of its arguments before it."""
        self._compute_small()
        return self._boxes([[node] for node in self.ops], share=False)

    def folded(self, max_boxes):
        """Return at most ``max_boxes`` boxes, at least 5: one for each phase.

        The phases in the middle share one if there are too many.
        """
        segments = self._phases()
        most = max_boxes
        while True:
            kept = segments
            if len(segments) > most:
                head, tail = most // 2, len(segments) - (most - 1) // 2
                middle = [node for segment in segments[head:tail] for node in segment]
                kept = [*segments[:head], middle, *segments[tail:]]
            boxes = self._boxes(kept, share=True)
            if len(boxes) <= max_boxes or most == 1:
                return boxes
            # leaves and constants need boxes too
            most = max(1, min(most, len(segments)) - math.ceil((len(boxes) - max_boxes) / 2))

    def _compute_small(self):
        """Compute the values that the graph did not keep, if that is little work."""
        with np.errstate(all="ignore"):
            for node in self.ops:
                args = [self.arrays.get(parent, a) for parent, a in _pairs(node)]
                known = not any(type(a) is Node for a in args)
                if known and node not in self.arrays and math.prod(node.shape) <= CHEAP:
                    self.arrays[node] = node.op(*map(raw, args), **node.static)

    def _phases(self):
        """Return the ops in segments that can share a box.

        A segment is what was recorded at a stretch, so none depends on what depends on it.
        """
        steps = {node for node in self.ops if node.op.name == "descend"}
        if not steps and len({node.in_derivative for node in self.ops}) == 1:
            return [[node] for node in self.ops]

        def phase(node):
            alone = node if node in self.outputs else None
            return node.in_derivative, node in steps, self.group.get(node), alone

        return [list(nodes) for _, nodes in groupby(self.ops, phase)]

    def _boxes(self, segments, share):
        """Return a box for each segment of ops, and boxes of leaves and constants before them.

        If ``share``, leaves, and constants, that go to the same boxes have one in common.
        """
        where = {node: i for i, nodes in enumerate(segments) for node in nodes}
        users = {key: set() for key in self.outputs if key not in where}
        for node, keys in self.arguments.items():
            for key in keys:
                if key not in where:
                    users.setdefault(key, set()).add(where[node])
        groups = {}
        for key, segments_of_key in users.items():
            group = (key in self.leaves, *sorted(segments_of_key)) if share else key
            groups.setdefault(group, []).append(key)
        boxes, box_of = [], {}
        for keys in [*groups.values(), *segments]:
            box = self._box(*keys) if len(keys) == 1 else self._shared_box(keys)
            used = [key for node in keys for key in self.arguments.get(node, ())]
            box.sources = [box_of[key] for key in used if key in box_of]
            if len(keys) > 1:
                box.sources = list(dict.fromkeys(box.sources))
            box_of |= dict.fromkeys(keys, box)
            boxes.append(box)
        return boxes

    def _kind(self, key):
        if key in self.arguments:
            return BACKWARD if key.in_derivative else FORWARD
        return LEAF if key in self.leaves else CONSTANT

    def _box(self, key):
        """Return the box of one leaf, constant or result of an op."""
        array = self.arrays.get(key)
        like = key if isinstance(key, Node) else array
        numbers = _numbers(array) if array is not None and math.prod(like.shape) <= FEW else ""
        call = [_call(key)] if key in self.arguments else []
        shape = "" if numbers and like.shape == () else str(like.shape)
        dtype = "" if like.dtype.kind == "f" else like.dtype.name
        lines = [*call, "  ".join(filter(None, [shape, dtype, numbers]))]
        full = ", ".join(filter(None, [*call, f"shape {like.shape}", like.dtype.name, numbers]))
        ordered = bool(call) and key.op.name not in COMMUTATIVE
        name = _short(self.names.get(key, ""))
        return Box(self._kind(key), name, lines, full, key in self.outputs, ordered=ordered)

    def _shared_box(self, keys):
        """Return the box of several leaves, constants or ops."""
        kinds = {self._kind(key) for key in keys}
        kind = BOTH if len(kinds) == 2 else kinds.pop()
        groups = {self.group.get(key) for key in keys}
        name = groups.pop() if len(groups) == 1 else None
        if kind in PHASES:
            parts = Counter(node.op.name for node in keys)
            name = name or ("gradient step" if parts.keys() == {"descend"} else PHASES[kind])
            title = count_of(len(keys), "operation")
        else:
            shapes = [k.shape if isinstance(k, Node) else self.arrays[k].shape for k in keys]
            labels = [self.names.get(k, str(shape)) for k, shape in zip(keys, shapes)]
            parts = Counter(label.removeprefix(f"{name}.") for label in labels)
            title = count_of(sum(map(math.prod, shapes)), "number")
        words = [part + (f" ×{n:,}" if n > 1 else "") for part, n in parts.most_common()]
        output = not self.outputs.keys().isdisjoint(keys)
        full = f"{title}: {', '.join(words)}"
        return Box(kind, _short(name or ""), [title, *_wrapped(words)], full, output, len(keys))


def _checked(outputs, names):
    """Return the outputs as a list."""
    tensors = leaves(outputs)
    for t in tensors:
        if type(t) is not Tensor:
            what = type(t).__name__
            raise TypeError(f"draw takes a Tensor, or a dict, list or tuple of them, not {what}")
    if all(t.node is None for t in tensors):
        raise ValueError(
            "there is no graph to draw, since no output requires a gradient; make the inputs with "
            "tm.tensor(..., requires_grad=True), stay outside tm.no_grad(), and take a gradient "
            "with create_graph=True"
        )
    if names is not None and not isinstance(names, dict):
        raise TypeError(f"names is {type(names).__name__}; give a dict from names to tensors")
    return tensors


def _pairs(node):
    """Yield the node, or None, and the value of each argument; a Node if it is not known."""
    for parent, a in zip(node.parents, node.args):
        if parent is None and type(a) is Node:  # a constant, which may still be alive
            alive = a.array()
            a = a if alive is None else alive
        yield parent, a


def _is_array(a):
    return hasattr(a, "shape") and not isinstance(a, np.generic)


def _key(value):
    if type(value) is Tensor:
        return id(value.data) if value.node is None else value.node
    return value if type(value) is Node else id(value)


def _paths(structure, path=()):
    """Yield the keys that lead to each leaf of a structure, and the leaf."""
    if isinstance(structure, dict):
        parts = structure.items()
    elif isinstance(structure, (list, tuple)):
        parts = zip(getattr(structure, "_fields", range(len(structure))), structure)
    else:
        yield path, structure
        return
    for key, part in parts:
        yield from _paths(part, (*path, str(key)))


# Words
def count_of(n: int, what: str, plural: str | None = None) -> str:
    """Return a number and what it counts.

    Examples
    --------
    >>> count_of(1, "box", "boxes"), count_of(1000, "number")
    ('1 box', '1,000 numbers')
    """
    return f"{n:,} {what if n == 1 else plural or what + 's'}"


def _short(text):
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _wrapped(words):
    """Return lines of words, separated by commas; a word stays in one line."""
    text = ", ".join(_short(word).replace(" ", NO_BREAK) for word in words)
    wrapped = textwrap.wrap(
        text, LONGEST, max_lines=LINES, placeholder=" …", break_on_hyphens=False
    )
    return [line.replace(NO_BREAK, " ") for line in wrapped]


def _numbers(array):
    style = {"float_kind": "{:.4g}".format}
    return " ".join(np.array2string(to_numpy(array), separator=", ", formatter=style).split())


def _word(value):
    return f"{value:.6g}" if isinstance(value, Real) else str(value)


def _call(node):
    """Return the op of a node with the numbers and short options that it was given."""
    words = []
    if not all(map(_is_array, node.args)):
        words = ["·" if _is_array(a) else _word(a) for a in node.args]
    for key, value in node.static.items():
        if value is None or value is False:
            continue
        known = isinstance(value, (int, float, str, tuple, np.dtype))
        word = SIGNS.get(key, f"{key}={value}" if known else "")
        if 0 < len(word) <= LONGEST // 2:
            words.append(word)
    return _short(node.op.name + (f"({', '.join(words)})" if words else ""))
