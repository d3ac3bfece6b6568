"""What a training tells: a line of numbers in log.jsonl and TensorBoard events each `log_every`
steps, scores of the generator, and whether anything is still learnt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from caloforge.errors import TrainingError
from caloforge.files import write_text

LOG = "log.jsonl"
EVENTS = "tensorboard"  # folder of the event files
GRADIENT = "gradient/"  # the norm of a player's gradient is logged as gradient/NAME
STAGNATION = "stagnation"  # in a line of the log: no player learns any more


class Stagnation:
    """Notices that every player's gradient has vanished: no player learns any more.

    It happens to GANs: a discriminator that separates perfectly has no gradient left, and gives
    none to the generator (M. Arjovsky, L. Bottou 2017, arXiv:1701.04862, Sec. 2.2). A critic that
    is too slow for its generator ends the same way: its units switch off, and it tells nothing
    apart. All further steps are wasted.

    Parameters
    ----------
    fraction
        A gradient has vanished when its norm is below this part of the largest it ever had.
    window
        Lines of the log in a row for which all gradients must have vanished.
    """

    def __init__(self, fraction: float = 1e-3, window: int = 20) -> None:
        self.fraction, self.window = fraction, window
        self.largest: dict[str, float] = {}
        self.vanished = 0

    def see(self, numbers: Mapping[str, float]) -> bool:
        """Whether the training stagnates, after one more line of the log."""
        norms = {k: v for k, v in numbers.items() if k.startswith(GRADIENT)}
        for name, norm in norms.items():
            self.largest[name] = max(norm, self.largest.get(name, 0.0))
        small = [norm <= self.fraction * self.largest[name] for name, norm in norms.items()]
        self.vanished = self.vanished + 1 if small and all(small) else 0
        return self.vanished >= self.window


class Log:
    """Writes the numbers of a run into its folder.

    Every file is opened when there is something to write, so that a run that has nothing to do
    leaves its folder as it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LOG
        self.stagnation = Stagnation()
        self._first = 0
        self._events: BinaryIO | None = None

    def begin(self, step: int) -> None:
        """Continue after `step`: lines of later steps, which a killed training made and this one
        makes again, are dropped.
        """
        self._first = step
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                numbers = json.loads(line)
                if numbers["step"] <= step:
                    kept.append(line + "\n")
                    self.stagnation.see(numbers)
            except (ValueError, KeyError, TypeError):
                continue  # cut short by the end of the disk or of the process
        write_text(self.path, "".join(kept))

    def numbers(self, step: int, values: Mapping[str, float]) -> bool:
        """A line of the log. Returns whether the training stagnates, which the line then says.

        Raises TrainingError when the disk is full.
        """
        stagnates = self.stagnation.see(values)
        line = {"step": step, **values, **({STAGNATION: 1.0} if stagnates else {})}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._full(self.path, error) from error
        self._event(step, values)
        return stagnates

    def scores(self, step: int, values: Mapping[str, float | None]) -> None:
        """Scores of the generator on the held-out showers, as TensorBoard events."""
        known = {f"selection/{k}": v for k, v in values.items() if v is not None}
        self._event(step, known)

    def _event(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        # SummaryWriter would write from a thread of its own, which dies with a traceback when the
        # disk is full, and would put the name of the machine into the name of the file.
        path = self.folder / EVENTS / f"events.out.tfevents.{self._first:010d}"
        events = []
        try:
            if self._events is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._events = path.open("wb")
                events.append(Event(wall_time=time.time(), file_version="brain.Event:2"))
                # TensorBoard forgets what an earlier file says of this step and of later ones.
                start = SessionLog(status=SessionLog.START)
                events.append(
                    Event(wall_time=time.time(), step=self._first + 1, session_log=start)
                )
            scalars = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
            summary = Summary(value=scalars)
            events.append(Event(wall_time=time.time(), step=step, summary=summary))
            writer = RecordWriter(self._events)
            for event in events:
                writer.write(event.SerializeToString())
        except OSError as error:
            raise self._full(path, error) from error

    def flush(self) -> None:
        """Events onto the disk, so that a killed process loses none up to here."""
        if self._events is not None:
            try:
                self._events.flush()
            except OSError as error:
                raise self._full(Path(self._events.name), error) from error

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        events, self._events = self._events, None
        if events is not None:
            try:
                events.close()
            except OSError as full:
                if error is None:  # else the first error is the one to tell
                    raise self._full(Path(events.name), full) from full

    @staticmethod
    def _full(path: Path, error: OSError) -> TrainingError:
        return TrainingError(
            f"Cannot write {path}: {error.strerror or error}; free some space, then --resume."
        )
