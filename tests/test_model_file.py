"""Model files: whatever is wrong with one is one sentence, and nothing in it is ever run."""

import json
import pickle
import runpy
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import memory_limit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import caloforge
from caloforge.errors import CaloForgeError, ModelError
from caloforge.models.digests import KEY
from caloforge.models.file import FORMAT, SCHEMA, load_model, save_model, write_tensors
from caloforge.pretrained import pretrained_names, resolve_model

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture
def good(smoke) -> Path:
    return smoke("caloshowergan") / "model.safetensors"


def sentence(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_model(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text.removesuffix("\n")
    return text


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[FORMAT])
        return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118


@pytest.fixture
def changed(good: Path, tmp_path: Path) -> Callable[..., Path]:
    """A model file with tensors or header changed by a function."""

    def make(change: Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]) -> Path:
        tensors, about = parts(good)
        change(tensors, about)
        path = tmp_path / "changed.safetensors"
        save_file(tensors, path, metadata={FORMAT: json.dumps(about)})
        return path

    return make


def test_a_file_describes_itself(good: Path) -> None:
    _, about = parts(good)
    assert about["schema"] == SCHEMA
    assert about["model"] == "caloshowergan"
    assert about["recipe"]["name"] == "smoke-caloshowergan"
    assert about["transform"] == {"name": "incident-fraction", "low_cut": 0.0, "knots": 0}
    assert about["geometry"]["name"] == "ds1-photons"
    assert len(about["geometry_hash"]) == 16
    assert about["versions"] == {"caloforge": caloforge.__version__, "torch": torch.__version__}
    assert about["seed"] == 0
    assert about["condition_range"] == {"energy": [256.0, 4194304.0]}
    assert about["chosen"]["step"] in (10, 20)
    kept = about["trained_on"]
    assert kept["held_out"] == round(0.1 * (kept["showers"] + kept["held_out"]))


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    assert "There is no model file" in sentence(tmp_path / "none.safetensors")
    assert "holds no model.safetensors" in sentence(tmp_path)
    path = tmp_path / "x.safetensors"
    for content in (b"", b"\x00", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"not a model" * 100):
        path.write_bytes(content)
        assert "not a readable model file" in sentence(path)
    save_file({"a": torch.zeros(3)}, path)
    assert "not a CaloForge model" in sentence(path)
    save_file({"a": torch.zeros(3)}, path, metadata={"format": "pt"})
    assert "not a CaloForge model" in sentence(path)


@pytest.mark.parametrize("claim", [2**63 - 1, 2**40, 10**8, 0])
def test_a_header_that_claims_a_wrong_length(good: Path, tmp_path: Path, claim: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", claim) + good.read_bytes()[8:])
    assert "not a readable model file" in sentence(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated(good: Path, tmp_path: Path, share: float) -> None:
    content = good.read_bytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    assert "not a readable model file" in sentence(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_corrupted_bytes_load_or_get_a_sentence(good: Path, tmp_path: Path, data: Any) -> None:
    """Whatever is changed, the file is refused in one sentence or gives the same model."""
    content = bytearray(good.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        last = header if data.draw(st.booleans()) else len(content)
        content[data.draw(st.integers(0, last - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    try:
        loaded = load_model(path)
    except ModelError as error:
        assert str(path) in str(error)
        return
    whole = load_model(good)
    assert loaded.about == whole.about
    state = loaded.model.generator_state()
    for key, value in whole.model.generator_state().items():
        assert torch.equal(state[key], value), key


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    key=st.sampled_from(
        ["schema", "model", "hyper", "geometry", "geometry_hash", "transform", "condition_range"]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "latent", "layers", "conditions", "energy", "low_cut"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=6,
    ),
)
def test_any_value_in_the_header_loads_or_gets_a_sentence(
    changed: Callable[..., Path], key: str, value: Any
) -> None:
    path = changed(lambda _, about: about.__setitem__(key, value))
    try:
        loaded = load_model(path)
        ranges = loaded.condition_range
    except ModelError as error:
        assert str(error)
    else:
        assert set(ranges) == {"energy"}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_one_changed_bit_in_a_weight_is_noticed(good: Path, tmp_path: Path, share: float) -> None:
    content = bytearray(good.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    content[header + int(share * (len(content) - header))] ^= 1
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert "is not what was written" in sentence(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (r"\"condition_range\": {\"energy\": [256", r"\"condition_range\": {\"energy\": [255"),
        (r"\"latent\": ", r"\"latent\":1"),
        (r"\"pid\": ", r"\"pid\":-"),
        (r"\"unit\": \"MeV", r"\"unit\": \"GeV"),
        ("caloforge-digests", "caloforge-digestt"),
    ],
)
def test_a_changed_description_is_noticed(
    good: Path, tmp_path: Path, before: str, after: str
) -> None:
    """Trained ranges, hyper-parameters, the particle, units, and the digests' own name."""
    content = good.read_bytes()
    assert before.encode() in content
    path = tmp_path / "x.safetensors"
    path.write_bytes(content.replace(before.encode(), after.encode(), 1))
    assert "damaged" in sentence(path)


def test_a_file_without_digests_is_read_and_gets_some(
    good: Path, changed: Callable[..., Path]
) -> None:
    old = changed(lambda *_: None)  # as files were before there were digests
    with safe_open(old, framework="pt") as file:
        assert KEY not in file.metadata()
    assert load_model(old).about == load_model(good).about
    weights = old.read_bytes()[8 + struct.unpack("<Q", old.read_bytes()[:8])[0] :]
    add_digests = runpy.run_path(str(TOOLS / "digests.py"))["add_digests"]
    assert add_digests(old)
    assert old.read_bytes().endswith(weights)
    assert not add_digests(old)
    assert load_model(old).about == load_model(good).about


@pytest.mark.parametrize("name", pretrained_names())
def test_shipped_generators_carry_digests(name: str) -> None:
    with safe_open(resolve_model(name), framework="pt") as file:
        written = json.loads(file.metadata()[KEY])
        assert set(written["tensors"]) == set(file.keys())
        assert set(written["metadata"]) == {FORMAT}


def test_a_model_that_its_file_does_not_fill_is_not_built(changed: Callable[..., Path]) -> None:
    """A description of 40 GB of weights, and one of a great many layers, in a small file."""
    for layers in ([100_000, 100_000], [2000] * 3000):
        path = changed(lambda _, about, g=layers: about["hyper"].update(generator=g))
        with memory_limit(4 << 30):
            assert "which its weights do not fill" in sentence(path) or "allocate" in sentence(
                path
            )


def test_newer_schema_and_no_description(changed: Callable[..., Path], tmp_path: Path) -> None:
    newer = changed(lambda _, about: about.update(schema=SCHEMA + 1))
    assert "newer CaloForge" in sentence(newer)
    for wrong in ("1", None, [], 1.5):
        path = changed(lambda _, about, wrong=wrong: about.update(schema=wrong))
        assert "does not describe a model" in sentence(path)
    path = tmp_path / "list.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={FORMAT: "[1]"})
    assert "does not describe a model" in sentence(path)
    save_file({"a": torch.zeros(1)}, path, metadata={FORMAT: "[" * 100_000})
    assert "not a readable model file" in sentence(path)
    save_file({"a": torch.zeros(1)}, path, metadata={FORMAT: "{"})
    assert "not a readable model file" in sentence(path)


@pytest.mark.parametrize("key", ["model", "hyper", "geometry", "geometry_hash", "transform"])
def test_a_missing_key_is_named(changed: Callable[..., Path], key: str) -> None:
    assert f"'{key}'" in sentence(changed(lambda _, about: about.pop(key)))


def test_wrong_weights(changed: Callable[..., Path]) -> None:
    first = "generator.0.weight"
    assert "other weights" in sentence(changed(lambda t, _: t.pop(first)))
    assert "other weights" in sentence(changed(lambda t, _: t.update(more=torch.zeros(1))))
    wrong = changed(lambda t, _: t.update({first: torch.zeros(2, 2)}))
    assert "has the shape (2, 2); expected (16, 9)" in sentence(wrong)
    for value in (float("nan"), float("inf")):
        bad = changed(lambda t, _, value=value: t[first].fill_(value))
        assert "NaN or infinite" in sentence(bad)


def test_wrong_hyper_parameters(changed: Callable[..., Path]) -> None:
    unknown = changed(lambda _, about: about["hyper"].update(latnt=3))
    assert "Unknown hyper-parameter 'latnt'" in sentence(unknown)
    huge = changed(lambda _, about: about["hyper"].update(generator=[10**12]))
    assert "cannot be built" in sentence(huge)
    other = changed(lambda _, about: about["hyper"].update(latent=9))
    assert "has the shape" in sentence(other)
    code = changed(lambda _, about: about.update(model="__import__('os').system('true')"))
    assert "Unknown model" in sentence(code)


def test_a_changed_geometry_is_noticed(changed: Callable[..., Path]) -> None:
    def move(_: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
        about["geometry"]["layers"][0]["r_edges"][-1] += 1.0

    assert "one of them was edited" in sentence(changed(move))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A pickle that would write a file, bare and inside the zip that torch.save makes."""
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(witness), "w")

    for name in ("model.safetensors", "model.pt"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Evil()))
        assert "not a readable model file" in sentence(path)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps(Evil()))
        assert "not a readable model file" in sentence(path)
    assert not witness.exists()


def test_an_interrupted_or_failed_write_keeps_the_old_file(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    model = load_model(good).model
    save_model(path, model, {})
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("caloforge.models.file.save_file", full)
    with pytest.raises(CaloForgeError, match="No space left on device"):
        save_model(path, model, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_full_disk(tmp_path: Path) -> None:
    """The library reports it with an error of its own; a limit on file size acts like it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CaloForgeError, match="Cannot write"):
            write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_loading_leaves_the_global_generator_alone(good: Path) -> None:
    before = torch.get_rng_state()
    model = load_model(good).model
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert np.isfinite(sum(float(p.detach().sum()) for p in model.parameters()))
