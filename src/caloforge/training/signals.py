"""Being asked to stop, without a step cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Ctrl-C, and what batch systems send before they kill; with what they do when nobody has said.
_ENDINGS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed or SIGTERM came, so that a step is never cut in two; the
    second interrupts at once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield asked.is_set
        return
    # What someone else handles is left to them.
    before = {k: usual for k, usual in _ENDINGS.items() if signal.getsignal(k) is usual}

    def restore() -> None:
        for number, usual in before.items():
            signal.signal(number, usual)

    def first(number: int, frame: object) -> None:
        asked.set()
        restore()

    for number in before:
        signal.signal(number, first)
    try:
        yield asked.is_set
    finally:
        restore()
