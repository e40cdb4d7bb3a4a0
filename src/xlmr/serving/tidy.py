"""Memory of models that went returns to the system, and what stays is not looked through for it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading

# Container objects that must have been made before cycles are looked for: a few hundred requests.
_COLLECT_EVERY = 50_000
# Whoever let a model go still has it in hand for a moment.
_AFTER_S = 1.0
# glibc's number for the most arenas, and how many suffice: small objects are Python's own affair.
_M_ARENA_MAX, _ARENAS = -8, 2


def keep_memory_together() -> None:
    """Before the first thread: all threads take memory from few places.

    glibc gives each thread a place of its own. What is freed in one is not used by another, and
    holes in many places add up: 120 MB in twenty minutes of mixed traffic.
    """
    # Of glibc; other systems' allocators do without.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def collect_seldom() -> None:
    """Once the first models are there: they and the modules stay, so cycles are not sought there.

    Python would look through all of them again and again while requests are answered, for nothing:
    a request leaves no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 50)


def tidy_soon() -> None:
    """A model came or went: in a moment, what it left behind is collected and given back.

    The allocator keeps what was freed between pieces that are in use: some 80 MB for each version
    of a model with XLM-R's vocabulary that is loaded and unloaded.
    """
    timer = threading.Timer(_AFTER_S, _tidy)
    timer.daemon = True
    timer.start()


def _tidy() -> None:
    gc.collect()
    # Of glibc; other systems' allocators do without.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
