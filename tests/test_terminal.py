"""What a terminal shows: help with examples, progress, verdicts; the page of a live training."""

import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

import caloforge.commands.live as live
from caloforge.cli import app
from caloforge.commands.examples import EXAMPLES, epilog
from caloforge.commands.watching import read_progress
from caloforge.config import load_recipe
from caloforge.errors import CaloForgeError
from caloforge.judge.comparison import Comparison, Details
from caloforge.metrics.base import Value
from caloforge.progress import TrainingBar, leaderboard, verdict
from caloforge.report.training import write_training_page

RUN = CliRunner()


def said(*words: object) -> str:
    done = RUN.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def commands() -> dict[str, Any]:
    """All commands by their names, those of the groups too."""
    found: dict[str, Any] = {}
    top: Any = get_command(app)
    for name, command in top.commands.items():
        members = getattr(command, "commands", None)
        found |= (
            {name: command} if members is None else {f"{name} {k}": c for k, c in members.items()}
        )
    return found


def test_every_command_has_examples_that_it_understands() -> None:
    known = commands()
    assert set(EXAMPLES) == set(known)
    for name, lines in EXAMPLES.items():
        for line in lines:
            words = shlex.split(line.split(">")[0])
            assert " ".join(words[1:]).startswith(name)
            # Parsed, not run: an option that is not there is an error of usage.
            known[name].make_context(name, words[1 + len(name.split()) :])


def test_help_shows_brackets_and_examples() -> None:
    shown = said("search", "--help")
    assert "[search]" in shown
    assert "Examples" in shown and EXAMPLES["search"][0][:40] in shown
    assert "[stack]" in said("simulate", "--help")
    assert "--install-completion" in said("--help")
    assert epilog("nothing") is None


def test_no_help_begins_in_the_middle_of_a_sentence() -> None:
    for name, command in commands().items():
        for parameter in command.params:
            assert parameter.name == "help" or parameter.help, (name, parameter.name)
            assert not re.match(r"(Of|As|Else) ", parameter.help or ""), (name, parameter.help)


def test_the_samples_have_sizes_and_the_public_data_dois() -> None:
    shown = said("data", "list")
    assert "MB" in shown and "10.5281" in shown


def value(v: float, floor: float | None, error: float = 0.001) -> Value:
    return Value(v, error, floor, 500)


def test_verdicts_and_colours() -> None:
    good = Comparison("good", {"auc_low": value(0.51, 0.50, 0.02)})
    bad = Comparison(
        "bad",
        {"auc_low": value(0.99, 0.50), "separation/response": value(0.3, 0.01)},
        details=Details(warnings=("Something is odd.",)),
    )
    assert "hardly tell" in verdict(good)
    assert "2 of 2 metrics are off" in verdict(bad) and "AUC" in verdict(bad)
    voxels = Comparison("v", {"separation_with_flow/voxel_energy": value(0.3, 0.01)})
    assert verdict(voxels).endswith(
        "the worst is “Separation power, under- and overflow counted” of voxel energy, 0.3 with a "
        "floor of 0.01: 30.0 × floor. No classifier is among these metrics."
    )
    assert "No classifier" not in verdict(good) + verdict(bad)
    least = Comparison("few", {"correlations": value(0.01, 0.01)})
    assert verdict(least).endswith("from the reference. No classifier is among these metrics.")
    # Between 0 and 1 a multiple of a distance from 1 says nothing.
    precise = Comparison("p", {"precision": value(0.5, 0.98)})
    assert verdict(precise).endswith(
        "“precision”, 0.5 with a floor of 0.98: 49 % of the way to 0. No classifier is among "
        "these metrics."
    )
    assert "nothing has a floor" in verdict(Comparison("none", {"auc_low": value(0.6, None)}))
    text = io.StringIO()
    Console(file=text, force_terminal=True, width=100).print(leaderboard([good, bad]))
    assert "\x1b[1;31m" in text.getvalue()


def test_progress_fits_eighty_columns_and_ends_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = TrainingBar()
    text = io.StringIO()
    screen = Console(file=text, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(bar._bar.live, "console", screen)
    with bar:
        bar.start("caloshowergan-photon", 0, 200_000)
        losses = {f"loss/player {k}": 1.2345 for k in range(8)}
        bar.log(100_000, {**losses, "steps_per_second": 12.0})
        bar.choice(200_000, "chi2_ndf 1.234", True)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    last = [line.rstrip() for line in re.split(r"[\r\n]", plain) if "200000/200000" in line][-1]
    assert len(last) <= 80 and last.endswith("left 0:00:00")


def test_a_training_is_watched_and_has_a_live_page(
    smoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = smoke("caloshowergan")
    (part,) = read_progress(run)
    assert part.step == part.steps == load_recipe(run / "recipe.toml").training.steps
    assert "χ²/NDF" in said("watch", run, "--once")
    assert said("watch", run)  # a training that is done ends it at once
    with pytest.raises(CaloForgeError, match=r"recipe\.toml"):
        RUN.invoke(app, ["watch", str(tmp_path)], catch_exceptions=False)

    (tmp_path / "recipe.toml").write_bytes((run / "recipe.toml").read_bytes())
    log = (run / "log.jsonl").read_text().splitlines()
    (tmp_path / "log.jsonl").write_text(log[0] + "\n" + log[-1][:5])
    assert read_progress(tmp_path)[0].step > 0  # the line that is being written is left out
    monkeypatch.setattr(live, "LIVE", 0.0)
    with live.LiveBar(tmp_path) as bar:
        bar.start("training", 0, 10)
        bar.log(1, {"steps_per_second": 1.0})
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in page and "This training runs" in page
    write_training_page(run)
    assert 'http-equiv="refresh"' not in (run / "index.html").read_text(encoding="utf-8")
