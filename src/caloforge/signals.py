"""Being asked to stop by Ctrl-C or by a batch system, without a step cut in two."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# Ctrl-C, and what batch systems send before they kill, each with what Python does by itself.
_USUAL: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


# The signal that asked last: a process has one set of signals, whoever watches for them.
_came: signal.Signals | None = None


class Terminated(BaseException):
    """SIGTERM came: everything is closed and cleaned up on the way out, as after Ctrl-C."""


def clean_up_when_terminated() -> None:
    """Let the first SIGTERM raise `Terminated`; the second ends the process at once.

    The command line does this at its start. By itself Python ends at SIGTERM without leaving its
    blocks, so that files being written would stay behind half.
    """
    if threading.current_thread() is threading.main_thread():  # only it may set handlers
        signal.signal(signal.SIGTERM, _terminate)
        usual = sys.unraisablehook
        if not (isinstance(usual, partial) and usual.func is _again_if_lost):
            sys.unraisablehook = partial(_again_if_lost, usual)


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def _again_if_lost(usual: Callable[[Any], object], what: UnraisableHookArgs) -> None:
    """Send a signal again that came where Python drops exceptions: in `__del__` or in a callback
    of a weak reference. Without this the command would go on as if nobody had asked.
    """
    if what.exc_type is Terminated:
        signal.signal(signal.SIGTERM, _terminate)
        lost = signal.SIGTERM
    elif what.exc_type is KeyboardInterrupt:
        lost = signal.SIGINT
    else:
        usual(what)
        return
    # Not at once: it would be dropped again.
    timer = threading.Timer(0.01, os.kill, (os.getpid(), lost))
    timer.daemon = True
    timer.start()


def exit_status() -> int:
    """The status with which a command ends that was asked to stop, as shells count it: 143 after
    SIGTERM, 130 after Ctrl-C.
    """
    return 128 + (_came or signal.SIGINT)


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
    global _came
    asked, _came = threading.Event(), None
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield asked.is_set
        return
    now = {s: signal.getsignal(s) for s in signals or _USUAL}
    before = {s: handler for s, handler in now.items() if handler in (_USUAL[s], _terminate)}

    def restore() -> None:
        for number, usual in before.items():
            signal.signal(number, usual)

    def first(number: int, frame: object) -> None:
        global _came
        _came = signal.Signals(number)
        asked.set()
        restore()

    for number in before:
        signal.signal(number, first)
    try:
        yield asked.is_set
    finally:
        restore()
