"""Searches that share a PostgreSQL database:
tools/with_postgresql.sh .venv/bin/pytest -m postgresql
"""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_search import SPACE, search_of

from caloforge.errors import TrainingError

pytest.importorskip("optuna", reason="needs the extra `search`")
pytest.importorskip("psycopg", reason="needs the extra `postgresql`")
URL = os.environ.get("POSTGRESQL_URL", "")
pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.skipif(not URL, reason="needs PostgreSQL: see tools/with_postgresql.sh"),
    # Optuna leaves its connections to the end of the process.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
]

WORKER = """
import sys
from pathlib import Path
from caloforge.config import load_recipe
from caloforge.search import Search, run_search
out, space, url, name = sys.argv[1:5]
recipe = load_recipe("smoke-flow-matching", sys.argv[5:])
run_search(Search(recipe, "ds1-photons-train", Path(out), Path(space), trials=4, startup=10,
                  device="cpu", prune=False, storage=url, name=name))
"""
LONG = ("training.steps=60", "training.checkpoint_every=5", "training.selection.every=30")


@pytest.fixture(autouse=True)
def connections() -> Iterator[None]:
    """Those that are left go within the test, where the warnings about them are awaited."""
    yield
    gc.collect()


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE, encoding="utf-8")
    return path


def begin(out: Path, space: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(out), str(space), URL, name, *LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def ended_well(worker: subprocess.Popen[str]) -> str:
    said, _ = worker.communicate(timeout=300)
    assert worker.returncode == 0, said
    return said


def test_workers_that_begin_at_once_make_one_set_of_tables() -> None:
    code = "import sys; from caloforge.search.study import open_storage; open_storage(sys.argv[1])"
    drop = (
        "import sys, sqlalchemy as s; c = s.create_engine(sys.argv[1]).connect();"
        "c.execute(s.text('drop schema public cascade; create schema public')); c.commit()"
    )
    subprocess.run([sys.executable, "-c", drop, URL], check=True)
    team = [
        subprocess.Popen([sys.executable, "-c", code, URL], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for worker in team:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said


def test_two_workers_with_the_database_alone(tmp_path: Path, space: Path) -> None:
    """They share no folder; one is killed, and goes on where it was when it is begun again."""
    from caloforge.config import load_recipe
    from caloforge.search import run_search

    long = load_recipe("smoke-flow-matching", LONG)
    alone = search_of(tmp_path / "alone", space, recipe=long, trials=4, startup=10)
    expected, _ = run_search(alone, tell=lambda line: None)
    name = f"two-{time.time_ns()}"
    first = begin(tmp_path / "first", space, name)
    second = begin(tmp_path / "second", space, name)
    until = time.monotonic() + 200
    trials = tmp_path / "second" / "trials"
    while not list(trials.glob("*/checkpoints/step-*.safetensors")):
        assert time.monotonic() < until and second.poll() is None, second.communicate()[0]
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    said = ended_well(first)
    said += ended_well(begin(tmp_path / "second", space, name))
    again = search_of(tmp_path / "first", space, recipe=long, trials=4, startup=10)
    found, _ = run_search(replace(again, storage=URL, name=name), tell=lambda line: None)
    assert [(t["number"], t["state"], t["params"]) for t in found["trials"]] == [
        (t["number"], "complete", t["params"]) for t in expected["trials"]
    ]
    for mine, theirs in zip(found["trials"], expected["trials"], strict=True):
        assert mine["values"] == pytest.approx(theirs["values"], rel=1e-3)
    assert sum(t["retries"] for t in found["trials"]) == 1
    # The password is told to nobody.
    password = URL.split(":")[2].split("@")[0]
    assert password not in said
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or password.encode() not in path.read_bytes()


def test_a_database_that_cannot_be_reached_gets_a_sentence(tmp_path: Path, space: Path) -> None:
    from caloforge.search.study import answering, open_storage

    wrong = URL.replace("@", "x@", 1)
    with pytest.raises(TrainingError, match="password authentication failed") as refused:
        open_storage(wrong)
    assert wrong.split(":")[2].split("@")[0] not in str(refused.value)
    with pytest.raises(TrainingError, match="no longer answers"), answering(URL):
        import sqlalchemy

        sqlalchemy.create_engine("postgresql+psycopg://u@127.0.0.1:1/db").connect()
