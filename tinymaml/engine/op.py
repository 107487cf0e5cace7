"""An op: one row of the derivative table, a function and the cotangent of each of its arguments."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from operator import itemgetter
from types import MethodType

import numpy as np
from numpy import ndarray

from .structure import map_leaves
from .tensor import Node, Tensor, raw, thread

#: Every op by its name: the derivative table.
table = {}

#: What a derivative may name beside the arguments and keywords of the forward.
RESERVED = ("**", "needed", "g", "y", "saved")
LISTS = (list, tuple)
LARGE = 2**20  # bytes of a constant that is not copied, since that would cost time
LISTS_AND_NUMBERS = (*LISTS, bool, int, float, np.generic)


def as_arrays(parts, kinds=LISTS_AND_NUMBERS):
    """Turn lists, and by default numbers, into arrays of the library of the tensors beside them."""
    like = next((raw(part) for part in parts if not isinstance(part, LISTS_AND_NUMBERS)), None)
    return [np.asarray(part, like=like) if isinstance(part, kinds) else part for part in parts]


class Op:
    """One row of the derivative table, to be called like its forward function; see :func:`op`.

    Attributes
    ----------
    name : str
    forward : function
    names : list of str
        Of the arguments that may be differentiated.
    starred : bool
        Whether the last of them stands for any number of arguments.
    derived : int
        How many of the last of them follow from the others.
    defaults : dict
        The keywords of the forward that derivatives name, and what they are if not given.
    saves : bool
        Whether the forward gives ``(y, saved)``.
    joint : bool
        Whether one derivative gives the cotangents of all arguments.
    vjps : list of function or None
        The derivative of each argument.
    picks : list of function
        For each of these, picks the values of its parameters from those :meth:`known`.
    """

    # __dict__ is for what functools.update_wrapper copies: the docstring and module of the forward
    __slots__ = tuple(
        "name forward names starred derived defaults saves joint vjps picks __dict__ "
        "_arity _by_position _wanted _differentiable _plans".split()
    )

    def __init__(self, forward, names, vjps, name, joint):
        functools.update_wrapper(self, forward)
        self.name = self.__name__ = self.__qualname__ = name or forward.__name__.lstrip("_")
        self.__doc__ = forward.__doc__ or f"The op ``{self.name}``; see :func:`tinymaml.op`."
        self.forward, self.joint, self.starred = forward, joint is not None, "*" in names
        self.names = [word.strip("*()") for word in names.split()]
        self.derived = names.count("(")
        self.vjps = [joint] if joint else list(vjps)
        if not joint and len(vjps) != sum(word.isidentifier() for word in names.split()):
            raise TypeError(
                f"op {self.name!r} takes {names!r} but has {len(vjps)} derivatives; give one for "
                "each argument without a star or parentheses, None where there is none"
            )
        self.__signature__ = _signature(forward, self.names)
        if not self.starred and not _takes(forward, self.__signature__, len(self.names)):
            raise TypeError(
                f"op {self.name!r} takes {names!r}, but its forward does not take so many "
                "arguments by position; name each of those that may be differentiated, in order"
            )
        self._arity = len(self.names)
        rest = list(self.__signature__.parameters.values())[self._arity :]
        rest = [p for p in rest if p.name != "out"]  # where a program wants the result
        options = {p.name: None if p.default is p.empty else p.default for p in rest}
        self._by_position = [p.name for p in rest if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._wanted = [_parameters(vjp) if vjp else [] for vjp in self.vjps]
        named = {name for wanted in self._wanted for name in wanted}
        self.defaults = {n: value for n, value in options.items() if n in named or "**" in named}
        self.picks = [wanted and _picker(self._places(wanted)) for wanted in self._wanted]
        for i, wanted in enumerate(self._wanted):
            if "**" in wanted:
                self.vjps[i] = functools.partial(_with_keywords, self.vjps[i])
        self.saves = "saved" in named
        self._differentiable = -1 if joint else sum(1 << i for i, v in enumerate(vjps) if v)
        self._plans = {}  # bit mask of the arguments that require a gradient -> what must be kept

    def _places(self, wanted):
        """Return where the values of a derivative's parameters are among all that is known."""
        known = [*RESERVED, *self.names, *self.defaults]
        places = {name: known.index(name) for name in known}
        places |= {f"{name}_like": places[name] for name in ("y", *self.names)}
        if len(set(known)) < len(known):
            twice = max(known, key=known.count)
            raise TypeError(
                f"op {self.name!r}: {twice!r} would mean two things; rename the argument"
            )
        if unknown := [name for name in wanted if name not in places]:
            raise TypeError(
                f"op {self.name!r}: a derivative names {', '.join(unknown)}, but it may name only "
                f"{', '.join(places)}"
            )
        return [places[name] for name in wanted]

    def __repr__(self):
        return f"<op {self.name}>"

    def __reduce__(self):
        """Copy and pickle by name: there is one row of a name."""
        return _row, (self.name,)

    def __get__(self, tensor, owner=None):
        """Bind to a tensor: an op is also a method."""
        return self if tensor is None else MethodType(self, tensor)

    def __call__(self, *args, **static):
        if len(args) != self._arity and not self.starred:
            args, static = self._bind(args, static)
        plain, parents, active, wrapped, constants = [], [], 0, False, False
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
                constants = True
                parents.append(None)
            plain.append(a)
        state = thread.state
        recorded = False
        if active:
            active &= self._differentiable
            recorded = active and state.recording
        if recorded:
            key = (active, len(args)) if self.starred else active
            keep_y, dropped = self._plans.get(key) or self._plan(key, active, len(args))
            if constants and state.trace is None:
                args = list(args)
                for i, a in enumerate(args):  # the user may change what the derivative will need
                    if type(a) is ndarray and i not in dropped and a.nbytes <= LARGE:
                        plain[i] = args[i] = a.copy()
        try:
            y, saved = self.forward(*plain, **static), None
        except TypeError:
            self._arguments(args, static)
            raise
        if self.saves:
            y, saved = y
        if not wrapped:
            if state.trace is not None:
                state.trace.append((self, args, static, y, saved))
            return y
        if type(y) is not ndarray:
            y = self._as_array(y, static)
        else:
            for a in plain:
                if a is y:
                    y = y.view()
            y.setflags(False)  # what is changed in place later would have a wrong derivative
        if state.trace is not None:
            if saved is not None:  # programs know arrays by who they are, as scalars cannot be
                saved = map_leaves(_no_scalar, saved)
            state.trace.append((self, args, static, y, saved))
        if not recorded:
            return Tensor(y)
        dtype = y.dtype
        if dtype.kind != "f":
            raise TypeError(
                f"op {self.name!r} gave {dtype.name} from a tensor that requires a gradient, but "
                "a derivative needs real floating-point numbers; use .detach() if none is needed"
            )
        if dropped:
            args = list(args)
            for i in dropped:
                args[i] = parents[i] or _shape_alone(args[i])
        if self.defaults:
            static = self.defaults | static if static else self.defaults
        kept = y if keep_y else None
        node = Node(self, parents, args, static, kept, saved, y.shape, dtype, state.in_derivative)
        return Tensor(y, node)

    def _as_array(self, y, static):
        """Return what a forward gave as an array: NumPy makes scalars of results without axes."""
        if type(y) is Tensor:
            raise TypeError(
                f"op {self.name!r} got a tensor for {_tensor_among(static)}, which is not "
                "differentiated; name it among the arguments where the op is made, or pass an array"
            )
        if isinstance(y, np.generic):
            y = np.asarray(y)
            y.setflags(False)
        return y

    def _bind(self, args, static):
        """Return the arguments by position and the others by keyword."""
        n = self._arity
        options = dict(zip(self._by_position, args[n:]))
        if len(args) == n + len(options) and options.keys().isdisjoint(static):
            return args[:n], options | static if static else options
        given = self._arguments(args, static)
        first = list(self.__signature__.parameters.values())[:n]
        return [given.pop(p.name, p.default) for p in first], given

    def _arguments(self, args, static):
        """Return the arguments of a call by name, or say that it does not fit."""
        try:
            return self.__signature__.bind(*args, **static).arguments
        except TypeError as misfit:
            raise TypeError(f"{self.name}{self.__signature__}: {misfit}") from None

    def _plan(self, key, active, n):
        """Return whether y must be kept, and which of n arguments need not be."""
        names = self.names + self.names[-1:] * (n - self._arity)
        used = [w for i, w in enumerate(self._wanted) if self.joint or active >> i & 1]
        wanted = set().union(*used)
        dropped = [i for i, name in enumerate(names[:n]) if name not in wanted]
        self._plans[key] = "y" in wanted, dropped
        return self._plans[key]

    def known(self, node, g, parents, as_tensors):
        """Return all that a derivative may ask for, in the order in which ``picks`` find it.

        ``node`` is of a result, ``g`` that one's cotangent, and of the arguments those are needed
        whose parent is not None. ``as_tensors``, derivatives can be recorded, otherwise they get
        raw arrays.
        """
        y, args, saved = node.y, node.args, node.saved
        if saved is not None and thread.state.trace is not None:
            saved = map_leaves(lambda a: Tensor(a) if hasattr(a, "dtype") else a, saved)
        if y is None:
            y = node  # in place of values that no derivative wants: it has their shape and dtype
        elif as_tensors:
            y = Tensor(y, node)
        if not as_tensors:
            args = [a.data if type(a) is Tensor else a for a in args]
        if self.starred:
            args = (*args[: self._arity - 1], args[self._arity - 1 :])
        needed = [parent is not None for parent in parents] if self.joint else None
        return [node.static, needed, g, y, saved, *args, *node.static.values()]


def _no_scalar(a):
    return np.asarray(a) if isinstance(a, np.generic) else a


def _parameters(vjp):
    """Return the names of a derivative's parameters; ** stands for all keywords of the forward."""
    parameters = inspect.signature(vjp).parameters.values()
    return ["**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters]


def _with_keywords(vjp, *values):
    return vjp(*values[:-1], **values[-1])


def _picker(places):
    """Return a function that gives the items at ``places`` as a tuple, also if it is one alone."""
    return itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))


def _row(name):
    return table[name]


def _tensor_among(static):
    found = [name for name, value in static.items() if type(value) is Tensor]
    return f"its keyword {found[0]!r}" if found else "what its forward captures"


def _shape_alone(a):
    """Return something with the shape and dtype of an array, that does not hold its values."""
    return Node.of(raw(a)) if hasattr(a, "shape") and not isinstance(a, np.generic) else a


def _signature(forward, names):
    """Return how ``forward`` is called; a ufunc, and what does not tell, with arguments alone."""
    with contextlib.suppress(ValueError):
        if not isinstance(forward, np.ufunc):
            return inspect.signature(forward)
    return inspect.Signature([inspect.Parameter(name, 0) for name in names])


def _takes(forward, signature, n):
    """Whether n arguments by position are what a forward takes; others may be its keywords."""
    if isinstance(forward, np.ufunc):
        return forward.nin == n
    kinds = [p.kind for p in signature.parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds or n <= sum(k <= 1 for k in kinds)


def op(
    forward: Callable,
    names: str,
    *vjps: Callable | None,
    name: str | None = None,
    joint: Callable | None = None,
) -> Op:
    """Make an op: one row of the derivative table.

    Parameters
    ----------
    forward : function
        Computes the result from raw arrays; or ``(y, saved)``, the result and what else it found
        out that a derivative wants, if a derivative names ``saved``. What is not an argument by
        ``names`` is a keyword, never differentiated.
    names : str
        The arguments that may be tensors: ``"a b"``. A last one with a star stands for any number
        of arguments: ``"x *indices"``. Last ones in parentheses follow from the others, such as
        ``"x (mean)"``: they have no derivative, since those of the others take them into account.
    *vjps : function or None
        For each argument without a star or parentheses its cotangent; None if it has none. Its
        parameters say what it needs, and nothing else is kept: ``g``, the cotangent of the result;
        ``y``, the result; an argument by its name, or ``NAME_like`` (``y_like`` too) for nothing
        but its ``shape``, ``ndim`` and ``dtype``; ``saved``; a keyword of the forward, or all with
        ``**``. It is fed raw arrays, or tensors if the derivative itself will be differentiated, so
        it must use nothing but operators, NumPy functions and ops, and must capture no float array.
        It may return the shape that its expression broadcasts to, which is summed down to the
        argument's.
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
    if not vjps and not joint:
        raise TypeError(
            "op has no derivatives; give one for each argument, None where there is none, or joint="
        )
    made = Op(forward, names, vjps, name, joint)
    table[made.name] = made
    return made
