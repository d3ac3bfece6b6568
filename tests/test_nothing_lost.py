"""No command writes over a file that it was not told to replace, or over what it reads."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.config import load_recipe
from caloforge.data import sample_path
from caloforge.errors import CaloForgeError
from caloforge.evaluate import judge_files
from caloforge.models.file import load_model, save_model
from caloforge.pretrained import resolve_model
from caloforge.training.folder import has_begun
from caloforge.training.readme import HEADING
from caloforge.training.train import train

RUN = CliRunner()
MODEL = "caloshowergan-photon"
GENERATE = ["generate", MODEL, "-n", "2", "--energy", "65536"]


def call(*words: object) -> None:
    RUN.invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_what_exists_is_replaced_only_when_told(tmp_path: Path) -> None:
    out, network = tmp_path / "showers.hdf5", tmp_path / "network.onnx"
    commands: list[list[object]] = [
        [*GENERATE, "--out", out],
        ["data", "convert", "ds1-photons-test", out],
        ["export", MODEL, "--to", "onnx", "--out", network],
        ["models", MODEL, "--page", out],
        ["geometry", "draw", "lcd", "--out", out],
    ]
    for path in (out, network):
        path.write_bytes(b"mine")
    for words in commands:
        with pytest.raises(CaloForgeError, match="--force"):
            call(*words)
        assert out.read_bytes() == network.read_bytes() == b"mine"
    call(*GENERATE, "--out", out, "--force")
    assert out.stat().st_size > 1000


@pytest.mark.parametrize(
    "name", ["results.json", "results.md", "shown.npz", "report.html", "figures/a.pdf"]
)
def test_a_result_is_replaced_only_when_told(name: str, tmp_path: Path) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    words = ("evaluate", "ds1-photons-test", "ds1-photons-train", "--out", tmp_path, "--pdf")
    with pytest.raises(CaloForgeError, match=f"{name} exists.*--force"):
        call(*words)
    assert mine.read_text() == "mine"


def test_a_page_is_drawn_again_in_its_own_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[object] = []
    monkeypatch.setattr("caloforge.evaluate.draw_results", lambda *words, pdf: drawn.append(words))
    for folder in ("result", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "report.html").write_text("mine")
    words = ("report", tmp_path / "result")
    with pytest.raises(CaloForgeError, match=r"report\.html exists.*--force"):
        call(*words, "--out", tmp_path / "other")
    assert not drawn
    for more in ((), ("--out", tmp_path / "result"), ("--out", tmp_path / "other", "--force")):
        call(*words, *more)
    assert len(drawn) == 3


@pytest.mark.parametrize(
    "name", ["README.md", "index.html", "model.safetensors", "range0/log.jsonl"]
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_training_replaces_no_file_of_another_origin(
    name: str, resume: bool, tmp_path: Path
) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("# Mine")
    with pytest.raises(CaloForgeError, match=f"{name} would be replaced"):
        train(load_recipe("smoke-copula"), "ds1-photons-test", tmp_path, resume=resume)
    assert mine.read_text() == "# Mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_training_that_died_before_its_first_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Training of smoke-copula\n")
    (tmp_path / "log.jsonl").write_text("")
    assert not has_begun(tmp_path, resume=False)
    (tmp_path / "model.safetensors").write_text("")  # a generator was chosen
    assert has_begun(tmp_path, resume=True)
    with pytest.raises(CaloForgeError, match="already holds a training"):
        has_begun(tmp_path, resume=False)


def test_a_training_names_itself_in_its_readme(smoke: Callable[[str], Path]) -> None:
    """By this a folder is known as a training's where its checkpoints were deleted."""
    assert (smoke("caloshowergan") / "README.md").read_text().startswith(HEADING)


def test_nothing_is_written_over_what_is_read(tmp_path: Path) -> None:
    model, showers = tmp_path / "model.onnx", tmp_path / "a.npz"
    model.write_bytes(resolve_model(MODEL).read_bytes())
    call(*GENERATE, "--out", showers)
    before = [model.read_bytes(), showers.read_bytes()]
    commands: list[list[object]] = [
        ["export", model, "--to", "onnx", "--out", model],
        ["generate", model, "--like", showers, "--out", showers],
        ["generate", model, "-n", 2, "--energy", 65536, "--out", model],
        ["data", "convert", showers, tmp_path / "." / "a.npz"],
    ]
    for words in commands:
        with pytest.raises(CaloForgeError, match="is what is read"):
            call(*words, "--force")
        assert [model.read_bytes(), showers.read_bytes()] == before


WRITING: list[list[object]] = [
    [*GENERATE, "--out"],
    ["data", "convert", "ds1-photons-test"],
    *(["export", MODEL, "--to", to, "--out"] for to in ("onnx", "par04", "fastcalosim")),
    ["models", MODEL, "--page"],
    ["geometry", "draw", "lcd", "--out"],
    ["evaluate", "ds1-photons-test", "ds1-photons-train", "--out"],
    ["train", "smoke-copula", "--data", "ds1-photons-test", "--out"],
]


@pytest.mark.parametrize("words", WRITING, ids=lambda words: " ".join(map(str, words[:4])))
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*given: object, **settings: object) -> None:
        raise AssertionError("it worked before it looked")

    for name in (
        "caloforge.commands.model_page.traversals",
        "caloforge.data.convert",
        "caloforge.export.export_model",
        "caloforge.generate.generate_file",
        "caloforge.judge.files._SideBySide.read",
        "caloforge.simulate.draw.draw_geometry",
        "caloforge.training.train.holdout_split",
    ):
        monkeypatch.setattr(name, work)
    (tmp_path / "file").touch()
    with pytest.raises(CaloForgeError, match="file is a file; expected a folder there"):
        call(*words, tmp_path / "file" / "new")
    access = os.access  # root may write everywhere
    monkeypatch.setattr(
        "os.access", lambda path, how: Path(path) != tmp_path and access(path, how)
    )
    with pytest.raises(CaloForgeError, match="Nothing may be written into"):
        call(*words, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("words", WRITING[:4] + WRITING[5:7], ids=str)
def test_a_folder_in_the_place_of_a_file_is_refused(words: list[object], tmp_path: Path) -> None:
    with pytest.raises(CaloForgeError, match="is a folder; expected the name of a file"):
        call(*words, tmp_path)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_export_into_a_folder_wants_an_empty_one(
    force: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.export.export_model", None)
    (tmp_path / "mine").touch()
    with pytest.raises(CaloForgeError, match="expected a new or empty folder"):
        call("export", MODEL, "--to", "fastcalosim", "--out", tmp_path, *force)


def test_an_ending_of_another_format_is_refused(tmp_path: Path) -> None:
    for words, named in (
        ([*GENERATE, "--out", tmp_path / "a.csv"], ".hdf5"),
        (["data", "convert", "lhcb-test", tmp_path / "a.parquet"], ".hdf5"),
        (["export", MODEL, "--to", "onnx", "--out", tmp_path / "a.safetensors"], ".onnx"),
        (["export", MODEL, "--to", "lwtnn", "--out", tmp_path / "a.onnx"], ".json"),
        (["export", MODEL, "--to", "fastcalosim", "--out", tmp_path / "a.onnx"], "folder"),
    ):
        with pytest.raises(CaloForgeError, match="another format") as refusal:
            call(*words)
        assert named in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_an_ending_in_capitals_is_the_same_format(tmp_path: Path) -> None:
    out = tmp_path / "A.NPZ"
    call("data", "convert", "lhcb-test", out)
    assert out.read_bytes()[:2] == b"PK"


def test_a_floor_is_not_the_reference_itself(tmp_path: Path) -> None:
    with pytest.raises(CaloForgeError, match="same file"):
        judge_files(
            "ds1-photons-test",
            ["ds1-photons-train"],
            tmp_path / "judged",
            floor=sample_path("ds1-photons-test"),
        )


def test_models_get_the_permissions_of_other_files(tmp_path: Path) -> None:
    model = load_model(resolve_model("lcd-mlp"))
    save_model(tmp_path / "model.safetensors", model.model, model.about)
    (tmp_path / "plain").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
