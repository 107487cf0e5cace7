"""Ctrl-C that waits until a step is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Within a ``with`` block the first Ctrl-C (or SIGTERM) sets an event; the next one ends all.

    The next one does what Ctrl-C did before: it raises KeyboardInterrupt, or ends the program.

    Examples
    --------
    >>> with stop_requests() as stop:
    ...     signal.raise_signal(signal.SIGINT)
    >>> stop.is_set()
    True
    """
    stop, before = threading.Event(), {}

    def request(*_):
        restore()
        stop.set()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():  # no other may set a handler
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):  # a background job may ignore Ctrl-C
                before[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
