"""Structures: one tensor, or dicts, lists and tuples of structures, as parameters come in."""


def leaves(structure):
    """Return the leaves of a structure in order.

    Examples
    --------
    >>> leaves({"weight": 1, "rest": [2, (3,)]})
    [1, 2, 3]
    """
    if isinstance(structure, dict):
        return [leaf for part in structure.values() for leaf in leaves(part)]
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in leaves(part)]
    return [structure]


def rebuild(structure, values):
    """Return a structure of the same form whose leaves are taken from the iterator ``values``.

    Examples
    --------
    >>> rebuild({"weight": 1, "rest": [2, (3,)]}, iter("abc"))
    {'weight': 'a', 'rest': ['b', ('c',)]}
    """
    if isinstance(structure, dict):
        made = {name: rebuild(part, values) for name, part in structure.items()}
        return made if type(structure) is dict else type(structure)(made)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):  # a NamedTuple
        return type(structure)(*[rebuild(part, values) for part in structure])
    if isinstance(structure, (list, tuple)):
        return type(structure)([rebuild(part, values) for part in structure])
    return next(values)


def match(structure, other, what):
    """Return the leaves of ``other`` in the order of ``structure``: dicts by key, lists by place.

    Parameters
    ----------
    structure, other
        Two structures of one form; a list and a tuple of one length are.
    what : str
        What to call ``other`` in the error.

    Raises
    ------
    ValueError
        If the forms differ; the sentence says where, and names both.

    Examples
    --------
    >>> match({"weight": 1, "rest": [2, (3,)]}, {"rest": ["b", ("c",)], "weight": "a"}, "other")
    ['a', 'b', 'c']
    >>> match([1, {"a": 2}], [1, {"b": 2}], "v")
    Traceback (most recent call last):
    ...
    ValueError: v[1] is a dict with keys 'b', but a dict with keys 'a' is expected
    """
    if isinstance(structure, dict):
        if isinstance(other, dict) and other.keys() == structure.keys():
            parts = [(key, part, other[key]) for key, part in structure.items()]
            return [leaf for k, a, b in parts for leaf in match(a, b, f"{what}[{k!r}]")]
    elif isinstance(structure, (list, tuple)):
        if isinstance(other, (list, tuple)) and len(other) == len(structure):
            parts = zip(range(len(other)), structure, other)
            return [leaf for k, a, b in parts for leaf in match(a, b, f"{what}[{k}]")]
    elif not isinstance(other, (dict, list, tuple)):
        return [other]
    raise ValueError(f"{what} is {_form(other)}, but {_form(structure)} is expected")


def _form(structure):
    if isinstance(structure, dict):
        keys = ", ".join(map(repr, structure))
        return f"a dict with keys {keys}" if keys else "an empty dict"
    if isinstance(structure, (list, tuple)):
        kind = "tuple" if isinstance(structure, tuple) else "list"
        return f"a {kind} of {len(structure)}"
    return "one value"


def names(structure, prefix=""):
    """Return for each leaf how to reach it: ``['weight']``, ``[0]``; '' for a lone leaf.

    Examples
    --------
    >>> names({"weight": 1, "rest": [2, (3,)]})
    ["['weight']", "['rest'][0]", "['rest'][1][0]"]
    """
    if isinstance(structure, dict):
        parts = structure.items()
    elif isinstance(structure, (list, tuple)):
        parts = enumerate(structure)
    else:
        return [prefix]
    return [name for key, part in parts for name in names(part, f"{prefix}[{key!r}]")]


def map_leaves(function, structure):
    """Return the structure with ``function`` applied to every leaf.

    Examples
    --------
    >>> map_leaves(str, [1, {"a": 2}])
    ['1', {'a': '2'}]
    """
    return rebuild(structure, iter([function(leaf) for leaf in leaves(structure)]))
