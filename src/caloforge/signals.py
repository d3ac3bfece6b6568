"""Being asked to stop by Ctrl-C or by a batch system, without a step cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Ctrl-C, and what batch systems send before they kill, each with what Python does by itself.
_USUAL: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Terminated(BaseException):
    """SIGTERM came: everything is closed and cleaned up on the way out, as after Ctrl-C."""


def clean_up_when_terminated() -> None:
    """Let the first SIGTERM raise `Terminated`; the second ends the process at once.

    The command line does this at its start. By itself Python ends at SIGTERM without leaving its
    blocks, so that files being written would stay behind half.
    """
    if threading.current_thread() is threading.main_thread():  # only it may set handlers
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


@contextmanager
def asked_to_stop(
    *signals: signal.Signals,
) -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed or SIGTERM came; the second signal interrupts at once.

    Parameters
    ----------
    signals
        The signals that ask; without any, Ctrl-C (SIGINT) and SIGTERM. A signal that other code
        handles already is left to that code.

    Example
    -------
    >>> with asked_to_stop() as asked:
    ...     asked()
    False
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield asked.is_set
        return
    now = {s: signal.getsignal(s) for s in signals or _USUAL}
    before = {s: handler for s, handler in now.items() if handler in (_USUAL[s], _terminate)}

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
