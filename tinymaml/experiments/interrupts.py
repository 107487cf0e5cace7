"""Ctrl-C that waits until a step is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Within a ``with`` block the first Ctrl-C sets an event; the next one ends all.

    SIGTERM and SIGHUP, of a closed terminal, are as Ctrl-C.
    The next one does what Ctrl-C did before: it raises KeyboardInterrupt, or ends the program.

    Examples
    --------
    >>> with stop_requests() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
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
        hangup = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none
        for number in {signal.SIGINT, signal.SIGTERM, hangup}:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):  # a background job may ignore Ctrl-C
                before[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
