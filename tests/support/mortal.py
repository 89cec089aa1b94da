"""Servers that end with the test process, also when that is killed and can tear nothing down.

On Linux the kernel sees to it; elsewhere a test process that is killed leaves its servers behind.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def ending_with_us() -> Callable[[], None] | None:
    """For ``preexec_fn``. The kernel means the thread that starts a server, so only the main one's end with us."""
    is_main = threading.current_thread() is threading.main_thread()
    return _ask_for_the_end if is_main and sys.platform == "linux" else None


def _ask_for_the_end() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
