"""Make a Python like Pyodide's: no threads, no other processes, not all modules."""

import _thread
import ctypes
import multiprocessing.connection  # noqa: F401  (Pyodide has it, and it needs what goes)
import os
import subprocess
import sys
import threading

import threadpoolctl

MISSING = "fcntl _multiprocessing _posixshmem resource pwd grp termios ssl _sqlite3 torch jax"


def refusing(error):
    def refuse(*arguments, **options):
        raise error

    return refuse


def become():
    """Take away from this process what a browser does not have; nothing brings it back."""
    for name in MISSING.split():
        sys.modules[name] = None
    _thread.start_new_thread = refusing(RuntimeError("can't start new thread"))
    threading._start_new_thread = _thread.start_new_thread
    no_processes = OSError(138, "emscripten does not support processes.")
    subprocess.Popen.__init__ = os.fork = refusing(no_processes)
    ctypes.CDLL = refusing(OSError("Could not load dynamic lib"))
    threadpoolctl.ThreadpoolController._load_libraries = lambda self: None  # there are none
    os.cpu_count = lambda: 1
    for name in ("sched_getaffinity", "sched_setaffinity", "register_at_fork"):
        vars(os).pop(name, None)
