"""Ctrl-C that is neither lost nor raised where it would do harm."""

import math
import signal
import threading
import time


class CtrlC:
    """Within a ``with`` block Ctrl-C is noted in ``pressed``, and raised only while ``raised``.

    An exception alone could be lost in a callback from C, and in the lock of a thread pool or in
    the writing of an npz it becomes some other error. SIGTERM is taken as Ctrl-C where the program
    takes it so.

    Attributes
    ----------
    pressed : bool
    raised : bool
        Whether to raise KeyboardInterrupt; not at first.

    Examples
    --------
    >>> with CtrlC() as ctrl_c:
    ...     signal.raise_signal(signal.SIGINT)
    >>> ctrl_c.pressed
    True
    """

    def __init__(self):
        self.pressed = self.raised = False
        self._last, self._before = -math.inf, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other may set a handler
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                # Another handler, or none as in a background job, is the choice of who started us.
                ours = isinstance(getattr(before, "__self__", None), CtrlC)
                if ours or before is signal.default_int_handler:
                    self._before[number] = before
                    signal.signal(number, self._press)
        return self

    def __exit__(self, *_):
        for number, before in self._before.items():
            signal.signal(number, before)

    def _press(self, *_):
        self.pressed, now = True, time.monotonic()
        # Some programs hand Ctrl-C on to us, who have got it already: it must not fall into the
        # wake of the first.
        if self.raised and now - self._last > 1:
            self._last = now
            raise KeyboardInterrupt
