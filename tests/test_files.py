"""Files and folders are written whole or not at all, with the permissions of the user's umask."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from caloforge.data import sample_path
from caloforge.errors import CaloForgeError
from caloforge.files import _machine, atomic_folder, atomic_path, write_text
from caloforge.models.file import write_tensors


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="a umask is a thing of POSIX")
def test_files_get_the_permissions_of_the_umask(umask: int, tmp_path: Path) -> None:
    """Also those of a writer that gives its file to the owner alone, as safetensors does."""
    write_tensors(tmp_path / "model.safetensors", {"a": torch.ones(2)}, {})
    write_text(tmp_path / "results.json", "{}")
    for name in ("model.safetensors", "results.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask
    with atomic_folder(tmp_path / "export") as folder:
        (folder / "a").touch()
    assert stat.S_IMODE((tmp_path / "export").stat().st_mode) == 0o777 & ~umask


def test_nothing_is_left_of_what_went_wrong(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    write_text(target, "before")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert target.read_text() == "before"
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("half")
        1 / 0  # noqa: B018
    with pytest.raises(CaloForgeError, match="Cannot write"), atomic_path(target) as temporary:
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == [target]


def test_threads_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    """The file is one of theirs, whole, and nothing else is left."""
    both = threading.Barrier(2, timeout=10)

    def write(letter: str) -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            both.wait()
            temporary.write_text(letter * 1000, encoding="utf-8")
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") in ("a" * 1000, "b" * 1000)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (
        pytest.raises(CaloForgeError, match="exists already; expected a new or empty folder"),
        atomic_folder(tmp_path),
    ):
        pass
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "b").touch()
    assert (tmp_path / "empty" / "b").exists()


def dead_process() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    """Only files of the same target, of this machine, whose process is gone."""
    gone, machine = dead_process(), _machine()
    left = [
        tmp_path / name
        for name in (
            f".file.{machine}-{gone}-{gone + 1}.part.txt",  # the second number is a thread's
            f".file.{machine}-{gone}.part.txt",  # as versions wrote that did not name the thread
        )
    ]
    kept = [
        tmp_path / name
        for name in (
            f".file.{machine}-{os.getppid()}-{os.getppid()}.part.txt",  # it lives
            f".file.0123abcd-{gone}.part.txt",  # of another machine
            f".other.{machine}-{gone}.part.txt",
            f".file.{machine}-{gone}.part.json",
            f".file.{machine}-{gone}x.part.txt",
            "file.part.txt",
        )
    ]
    for path in (*left, *kept):
        path.write_text("half")
    folder = tmp_path / f".folder.{machine}-{gone}.part"
    folder.mkdir()
    (folder / "a").write_text("half")
    write_text(tmp_path / "file.txt", "whole")
    assert not any(path.exists() for path in left)
    assert folder.exists()
    with atomic_folder(tmp_path / "folder"):
        pass
    assert not folder.exists()
    assert sorted(tmp_path.iterdir()) == sorted(
        [*kept, tmp_path / "file.txt", tmp_path / "folder"]
    )


DROPPED = """
import os, signal, sys, time
from caloforge.signals import Terminated, clean_up_when_terminated

class Closing:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.1)

clean_up_when_terminated()
hook = sys.unraisablehook
clean_up_when_terminated()
assert sys.unraisablehook is hook
thing = Closing()
try:
    del thing
    time.sleep(60)
except Terminated:
    print("terminated")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("how", "said"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")]
)
def test_a_signal_where_python_drops_exceptions_is_not_lost(
    how: signal.Signals, said: str
) -> None:
    """The command went on to its end where SIGTERM came while an object was being removed."""
    command = [sys.executable, "-c", DROPPED, str(int(how))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.stdout.strip() == said, done.stderr
    assert done.stderr == ""


def command_line(command: str, out: Path) -> list[str]:
    """A command that writes `out` for long."""
    sources = 60 * f" {sample_path('ds1-photons-train')}"
    lines = {
        "generate": "generate caloshowergan-photon -n 300000 --condition energy=65536 --out",
        "convert": f"data convert {sources}",
        "export": "export caloshowergan-photon --to onnx --out",
    }
    return [*lines[command].split(), str(out)]


def begun(folder: Path) -> bool:
    """Whether something has been written into a hidden file."""
    with suppress(FileNotFoundError):  # the first moment it comes and goes
        return any(path.stat().st_size for path in folder.glob(".*.part*"))
    return False


@pytest.mark.parametrize(
    "command",
    ["convert", *(pytest.param(c, marks=pytest.mark.slow) for c in ("generate", "export"))],
)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_stopped_leaves_nothing(
    command: str, how: signal.Signals, tmp_path: Path
) -> None:
    """SIGTERM cleans up; what kill -9 leaves goes away when the target is written next."""
    running = subprocess.Popen(
        [sys.executable, "-m", "caloforge", *command_line(command, tmp_path / "file")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    while not begun(tmp_path):
        assert running.poll() is None, running.communicate()[1].decode()
        time.sleep(0.002)
    running.send_signal(how)
    errors = running.communicate(timeout=120)[1].decode()
    if how == signal.SIGTERM:
        assert running.returncode == 143, errors
        assert "Stopped by SIGTERM" in errors.splitlines()[-1]
        assert "Traceback" not in errors
    assert bool(list(tmp_path.iterdir())) == (how == signal.SIGKILL)
    write_text(tmp_path / "file", "whole")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_judge_that_is_stopped_leaves_no_hidden_file(
    how: signal.Signals, tmp_path: Path
) -> None:
    """The folder of a result appears file by file, each of them whole."""
    samples = ["lcd-test", "lcd-train"]
    running = subprocess.Popen(
        [sys.executable, "-m", "caloforge", "evaluate", *samples, "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    time.sleep(8)
    assert running.poll() is None, running.communicate()[1].decode()
    running.send_signal(how)
    errors = running.communicate(timeout=120)[1].decode()
    if how == signal.SIGTERM:
        assert running.returncode == 143, errors
        assert "Stopped by SIGTERM" in errors.splitlines()[-1]
    hidden = [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert how == signal.SIGKILL or not hidden


def small_disk(size: str) -> list[str]:
    """The beginning of a command that sees an empty disk of this size in the folder $DISK."""
    mount = f'mount -t tmpfs -o size={size} none "$DISK" && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "generate one-step-photons -n 3000 --energy 65536 --out DISK/x.hdf5",
        "data convert ds1-photons-train DISK/y.hdf5",
        "export caloshowergan-photon --to onnx --out DISK/model",
        "train smoke-caloshowergan --data ds1-photons-train --out DISK/run --steps 5",
        "evaluate lhcb-test lhcb-train --out DISK/judged",
    ],
)
def test_a_disk_that_is_really_full_gets_one_sentence(command: str, tmp_path: Path) -> None:
    there = {**os.environ, "DISK": str(tmp_path)}
    if subprocess.run([*small_disk("1m"), "true"], env=there, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk of its own (user namespaces)")
    line = command.replace("DISK", str(tmp_path)).split()
    done = subprocess.run(
        [*small_disk("200k"), sys.executable, "-m", "caloforge", *line],
        env=there,
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = (done.stdout + done.stderr).replace("\n", " ")
    assert done.returncode == 2 and "Traceback" not in said
    assert "No space left on device" in said or "disk is full" in said
