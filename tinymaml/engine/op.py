"""An op: one row of the derivative table, a function and the cotangent of each of its arguments."""

import functools
import inspect
from operator import itemgetter
from types import MethodType

import numpy as np

from .tensor import Node, Tensor, raw, state

#: Every op by its name: the derivative table.
table = {}

#: What a derivative may name beside the arguments and keywords of the forward.
RESERVED = ("needed", "g", "y", "saved")
LISTS = (list, tuple)
LISTS_AND_NUMBERS = (*LISTS, bool, int, float, np.generic)


def as_arrays(parts, kinds=LISTS_AND_NUMBERS):
    """Turn lists, and by default numbers, into arrays of the library of the tensors beside them."""
    like = next((raw(part) for part in parts if not isinstance(part, LISTS_AND_NUMBERS)), None)
    return [np.asarray(part, like=like) if isinstance(part, kinds) else part for part in parts]


class Op:
    """One row of the derivative table, to be called like its forward function; see :func:`op`.

    Given a tensor it gives a tensor; given raw arrays only, it gives a raw array.

    Attributes
    ----------
    name : str
    forward : function
    names : list of str
        Of the arguments that may be differentiated.
    starred : bool
        Whether the last of them stands for any number of arguments.
    defaults : dict
        The keywords of the forward, which are never differentiated, and what they are if not given.
    saves : bool
        Whether the forward gives ``(y, saved)``.
    rules : list of tuple
        For each argument its derivative, the names of that one's parameters, and a function that
        picks their values from all that is known; None for an argument without a derivative.
    joint : bool
        Whether there is one rule for all arguments.
    """

    # functools.update_wrapper writes into __dict__: the docstring, name and module of the forward
    __slots__ = tuple("name forward names starred defaults saves rules joint".split()) + (
        *("__dict__", "_arity", "_by_position", "_differentiable", "_plans"),
    )

    def __init__(self, forward, names, vjps, name=None, joint=None):
        functools.update_wrapper(self, forward)
        self.name = self.__name__ = self.__qualname__ = name or forward.__name__.lstrip("_")
        self.forward, self.joint = forward, joint is not None
        self.starred = "*" in names
        self.names = names.replace("*", "").split()
        self._arity = len(self.names)
        self.__signature__ = _signature(forward, self.names)
        rest = list(self.__signature__.parameters.values())[self._arity :]
        self.defaults = {p.name: None if p.default is p.empty else p.default for p in rest}
        self._by_position = [p.name for p in rest if p.kind is p.POSITIONAL_OR_KEYWORD]
        known = [*RESERVED, *self.names, *self.defaults]
        if len(set(known)) < len(known):
            raise TypeError(
                f"op {self.name!r}: an argument is called {', '.join(RESERVED)} or like another "
                f"one ({', '.join(known[len(RESERVED) :])}); rename it"
            )
        if not joint and len(vjps) != self._arity - self.starred:
            raise TypeError(
                f"op {self.name!r} has {len(vjps)} derivatives for {self._arity} arguments "
                f"({names}); give one for each, None where there is none, or joint="
            )
        places = {name: i for i, name in enumerate(known)}
        places |= {f"{name}_like": places[name] for name in ("y", *self.names)}
        self.rules = [vjp and self._rule(vjp, places) for vjp in ([joint] if joint else vjps)]
        self.saves = any(rule and "saved" in rule[1] for rule in self.rules)
        self._differentiable = sum(1 << i for i, rule in enumerate(self.rules) if rule)
        if joint:
            self._differentiable = -1
        self._plans = {}  # bit mask of the arguments that require a gradient -> what must be kept

    def _rule(self, vjp, places):
        wanted = list(inspect.signature(vjp).parameters)
        for name in wanted:
            if name not in places:
                raise TypeError(
                    f"op {self.name!r}: a derivative names {name!r}; it may "
                    f"name {', '.join(places)}"
                )
        where = [places[name] for name in wanted]
        # of one item, itemgetter would give no tuple
        pick = itemgetter(*where) if len(where) > 1 else itemgetter(slice(where[0], where[0] + 1))
        return vjp, wanted, pick

    def __repr__(self):
        return f"<op {self.name}>"

    def __get__(self, tensor, owner=None):
        """Bind to a tensor: an op is also a method."""
        return self if tensor is None else MethodType(self, tensor)

    def __call__(self, *args, **static):
        if len(args) != self._arity:
            args, static = self._bind(args, static)
        plain, parents, active, wrapped = [], [], 0, False
        for a in args:
            kind = type(a)
            if kind is Tensor:
                wrapped = True
                node, a = a.node, a.data
                if node is not None:
                    active |= 1 << len(parents)
                parents.append(node)
            elif kind is list or kind is tuple:  # a derivative would do list arithmetic on it
                return self(*as_arrays(args, LISTS), **static)
            else:
                parents.append(None)
            plain.append(a)
        y, saved = self.forward(*plain, **static), None
        if state.trace is not None:
            state.trace.append((self, args, static))
        if self.saves:
            y, saved = y
        if not wrapped:
            return y
        if isinstance(y, np.generic):  # NumPy turns 0-d results into scalars; tensors hold arrays
            y = np.asarray(y)
        active &= self._differentiable
        if not active or not state.recording:
            return Tensor(y)
        keep_y, keep_saved, dropped = self._plans.get((active, len(args))) or self._plan(
            active, len(args)
        )
        if dropped:
            args = list(args)
            for i in dropped:
                if hasattr(args[i], "shape") and not isinstance(args[i], np.generic):
                    args[i] = parents[i] or Node.of(raw(args[i]))
        node = Node(
            self,
            parents,
            args,
            self.defaults | static if self.defaults else static,
            y if keep_y else None,
            saved if keep_saved else None,
            y.shape,
            y.dtype,
        )
        return Tensor(y, node)

    def _bind(self, args, static):
        """Return the arguments by position and the others by keyword."""
        if self.starred:
            return args, static
        n = self._arity
        options = dict(zip(self._by_position, args[n:]))
        if len(args) - n == len(options) and options.keys().isdisjoint(static):
            return args[:n], options | static
        bound = self.__signature__.bind(*args, **static)
        bound.apply_defaults()
        values = list(bound.arguments.values())
        return values[:n], dict(zip(self.defaults, values[n:]))

    def _plan(self, active, n):
        """Return whether y and saved must be kept, and which of n arguments need not be."""
        used = [rule for i, rule in enumerate(self.rules) if self.joint or active >> i & 1]
        wanted = {name for _, names, _ in used for name in names}
        names = self.names + self.names[-1:] * (n - self._arity)
        dropped = [i for i, name in enumerate(names[:n]) if name not in wanted]
        plan = self._plans[active, n] = "y" in wanted, "saved" in wanted, dropped
        return plan

    def cotangents(self, node, parents, g, create_graph):
        """Return the cotangent of each argument, None where its parent is None.

        Parameters
        ----------
        node : Node
            A result of this op.
        parents : list of Node or None
            Those of its parents whose cotangents are wanted.
        g : array or Tensor
            The cotangent of the result.
        create_graph : bool
            Whether the derivatives work on tensors, so that they are recorded, or on raw arrays.
        """
        y, args = node.y, node.args
        if y is None:
            y = node  # in place of values that no derivative wants: it has their shape and dtype
        elif create_graph:
            y = Tensor(y, node)
        if not create_graph:
            args = [a.data if type(a) is Tensor else a for a in args]
        if self.starred:
            args = (*args[: self._arity - 1], args[self._arity - 1 :])
        if self.joint:
            ((vjp, _, pick),) = self.rules
            needed = [parent is not None for parent in parents]
            return vjp(*pick((needed, g, y, node.saved, *args, *node.static.values())))
        known = (None, g, y, node.saved, *args, *node.static.values())
        return [
            rule[0](*rule[2](known)) if rule and parent else None
            for parent, rule in zip(parents, self.rules)
        ]


def _signature(forward, names):
    """Return how ``forward`` is called; a ufunc, and what does not tell, with arguments alone."""
    try:
        if not isinstance(forward, np.ufunc):
            return inspect.signature(forward)
    except ValueError:
        pass
    return inspect.Signature([inspect.Parameter(name, 0) for name in names])


def op(forward, names, *vjps, name=None, joint=None):
    """Make an op: one row of the derivative table.

    Parameters
    ----------
    forward : function
        Computes the result from raw arrays; or ``(y, saved)``, the result and what else it found
        out that a derivative wants, if a derivative names ``saved``. What is not an argument by
        ``names`` is a keyword, never differentiated.
    names : str
        The arguments that may be tensors: ``"a b"``. A last one with a star stands for any number
        of arguments: ``"x *indices"``.
    *vjps : function or None
        For each argument (but a starred one) its cotangent; None if it has no derivative. Its
        parameters say what it needs, and nothing else is kept: ``g``, the cotangent of the result;
        ``y``, the result; an argument by its name, or ``NAME_like`` (``y_like`` too) for nothing
        but its ``shape``, ``ndim`` and ``dtype``; ``saved``; a keyword of the forward. It is fed
        raw arrays, or tensors if the derivative itself will be differentiated, so it must use
        nothing but operators, NumPy functions and ops, and must capture no float array. It may
        return the shape that its expression broadcasts to; that is summed down to the argument's.
    name : str, optional
        ``forward.__name__`` by default.
    joint : function, optional
        In place of ``vjps``, for an op of any number of arguments or whose cotangents share work:
        gives a list of them all, None (or anything) for those that ``needed``, a list of booleans
        that it may name, does not ask for.

    Returns
    -------
    Op
        Takes tensors and gives a tensor; given raw arrays only, it gives a raw array.

    Raises
    ------
    TypeError
        If a derivative names what there is not, or there is not one for each argument.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> tanh = tm.op(np.tanh, "x", lambda g, y: g * (1 - y * y), name="my_tanh")
    >>> tm.func.grad(tanh)(0.0)
    array(1.)
    >>> scale = tm.op(lambda x, by=2.0: x * by, "x", lambda g, by: g * by, name="scale")
    >>> tm.func.grad(scale)(1.0)
    array(2.)
    """
    if not isinstance(names, str):
        raise TypeError(
            "op takes the names of the arguments after the forward, as in "
            "op(np.multiply, 'a b', lambda g, b: g * b, lambda g, a: g * a)"
        )
    made = Op(forward, names, vjps, name, joint)
    table[made.name] = made
    return made
