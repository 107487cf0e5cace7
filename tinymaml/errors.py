"""The one kind of error that a person at the command line can cause and mend."""


class UserError(ValueError):
    """Bad input, in one sentence: what was given, what was expected, what to do.

    The command line prints the sentence and exits with code 2; in Python it is a ``ValueError``.

    Examples
    --------
    >>> raise UserError("--n-way is 0; give at least 2 classes")
    Traceback (most recent call last):
    ...
    tinymaml.errors.UserError: --n-way is 0; give at least 2 classes
    """
