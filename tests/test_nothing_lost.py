"""No command writes over a file that it was not told to replace, or over what it reads."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.data import sample_path
from caloforge.errors import CaloForgeError
from caloforge.evaluate import judge_files
from caloforge.models.file import load_model, save_model
from caloforge.pretrained import resolve_model

RUN = CliRunner()
MODEL = "caloshowergan-photon"
GENERATE = ["generate", MODEL, "-n", "2", "--energy", "65536"]


def call(*words: object) -> None:
    RUN.invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_what_exists_is_replaced_only_when_told(tmp_path: Path) -> None:
    out = tmp_path / "showers.hdf5"
    out.write_bytes(b"mine")
    commands: list[list[object]] = [
        [*GENERATE, "--out", out],
        ["data", "convert", "ds1-photons-test", out],
        ["export", MODEL, "--to", "onnx", "--out", out],
        ["models", MODEL, "--page", out],
        ["geometry", "draw", "lcd", "--out", out],
    ]
    for words in commands:
        with pytest.raises(CaloForgeError, match="--force"):
            call(*words)
        assert out.read_bytes() == b"mine"
    call(*GENERATE, "--out", out, "--force")
    assert out.stat().st_size > 1000


def test_a_result_is_replaced_only_when_told(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    words = ("evaluate", "ds1-photons-test", "ds1-photons-train", "--out", tmp_path)
    with pytest.raises(CaloForgeError, match="--force"):
        call(*words)


def test_nothing_is_written_over_what_is_read(tmp_path: Path) -> None:
    model, showers = tmp_path / "model.safetensors", tmp_path / "a.npz"
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
