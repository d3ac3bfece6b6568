"""The explorer without a browser: files, description, reference showers, server, command."""

import hashlib
import json
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import caloforge
from caloforge.cli import app
from caloforge.data import open_showers, read_showers, sample_path
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.errors import CaloForgeError
from caloforge.explore import ExplorerServer, find_runtime, load_explored, write_site
from caloforge.explore.describe import MOST_RINGS, description, rings
from caloforge.explore.page import FILES, build, page_file
from caloforge.explore.reference import MOST_SHOWERS, packed, reference_of
from caloforge.explore.site import DIST
from caloforge.models.file import load_model
from caloforge.noise import normals
from caloforge.pretrained import resolve_model

MODEL = "caloshowergan-photon"  # the smallest generator of the shipped ones


@pytest.fixture(scope="module")
def server() -> Iterator[ExplorerServer]:
    with ExplorerServer(load_explored([MODEL])) as running:
        yield running


def ask(
    server: ExplorerServer, path: str, body: bytes | None = None, host: str | None = None
) -> tuple[int, bytes, Any]:
    """Status, content and headers of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/{path}", data=body)
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def floats(*arrays: Any) -> bytes:
    return b"".join(np.asarray(array, "<f4").tobytes() for array in arrays)


# --- files of the page -----------------------------------------------------------------------
def test_the_page_is_in_the_package_and_small() -> None:
    sizes = [len(page_file(name)[0]) for name in FILES]
    assert 0 < sum(sizes) <= 1_000_000
    facts = build()
    assert facts["package"] == "onnxruntime-web" and len(facts["sha256"]) == 64
    lock = Path(__file__).parents[1] / "web" / "package-lock.json"
    locked = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    assert locked["node_modules/onnxruntime-web"]["version"] == facts["version"]
    licences = page_file("licences.txt")[0].decode()
    for name in ("three", "onnxruntime-web"):
        assert f"{name} {locked[f'node_modules/{name}']['version']}" in licences


def test_the_lock_file_names_no_registry() -> None:
    text = (Path(__file__).parents[1] / "web" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in text


def test_the_page_asks_no_other_host() -> None:
    page = page_file("index.html")[0].decode()
    assert "default-src 'self'" in page and "http" not in page.replace("http-equiv", "")
    with pytest.raises(CaloForgeError, match="no such file"):
        page_file("../page.py")


# --- description and reference ----------------------------------------------------------------
def test_the_description_says_what_the_geometry_file_says() -> None:
    (explored,) = load_explored([MODEL])
    plain = json.loads(json.dumps(description([explored], "server")))
    (model,) = plain["models"]
    geometry = load_geometry("ds1-photons")
    detector = plain["detectors"][geometry.hash]
    assert model["detector"] == geometry.hash and model["noise"] == 100
    assert [layer["z"] for layer in detector["layers"]] == [list(x.z) for x in geometry.layers]
    assert detector["conditions"][0]["scale"] == "log" and detector["energy"] == [0]
    cells = [(len(x["edges"][0]) - 1) * (len(x["edges"][1]) - 1) for x in detector["layers"]]
    assert sum(cells) == geometry.n_cells
    assert plain["references"]["ds1-photons"]["count"] == 506


@pytest.mark.parametrize("name", geometry_names())
def test_every_detector_has_rings(name: str) -> None:
    edges = rings(load_geometry(name))
    assert 2 <= len(edges) <= MOST_RINGS + 1
    assert edges[0] == 0 and all(np.diff(edges) > 0)


def test_reference_showers_suit_read_out_and_particle() -> None:
    file = load_model(resolve_model("calogan-eplus"))
    found = reference_of(file)
    assert found is not None and found.name == "calogan-eplus"
    assert len(found.showers) == 600 <= MOST_SHOWERS
    # The same read-out, but no showers of this particle are shipped.
    assert reference_of(load_model(resolve_model("calogan-gamma"))) is None
    # A file of another read-out is not for this model.
    assert reference_of(file, sample_path("lhcb-test")) is None


def test_reference_showers_are_read_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of showers may be larger than the memory."""
    file, sample = load_model(resolve_model("calogan-eplus")), sample_path("calogan-eplus-test")
    everything = read_showers(sample)
    asked: list[int] = []
    monkeypatch.setattr("caloforge.data.reader.check_memory", lambda n, *_: asked.append(n))
    monkeypatch.setattr("caloforge.data.reader.BLOCK_BYTES", 4 * 504 * 40)
    monkeypatch.setattr("caloforge.explore.reference.MOST_SHOWERS", 100)
    found = reference_of(file, sample)
    assert found is not None and len(found.showers) == 100
    assert 0 < max(asked) < len(everything)
    energies = found.showers.incident_energy
    assert energies.min() == everything.incident_energy.min()
    assert energies.max() == everything.incident_energy.max()
    assert {row.tobytes() for row in found.showers.energies} <= {
        row.tobytes() for row in everything.energies
    }


def test_reference_showers_of_a_scan_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.explore.reference.MOST_SHOWERS", 100)  # of 15 energies
    found = reference_of(load_model(resolve_model(MODEL)))
    assert found is not None and 80 < len(found.showers) <= 100


def test_packed_showers_are_read_back() -> None:
    showers = read_showers(sample_path("ds1-photons-test"))[:7]
    content = packed(showers)
    n, cells, columns, lit = struct.unpack("<4I", content[:16])
    assert (n, cells, columns) == (7, 368, 1)
    at = 16 + 4 * n * columns
    begins = np.frombuffer(content, "<u4", n + 1, at)
    at += begins.nbytes
    energies = np.frombuffer(content, "<f4", lit, at)
    places = np.frombuffer(content, "<u2", lit, at + energies.nbytes)
    again = np.zeros((n, cells), np.float32)
    for k in range(n):
        part = slice(begins[k], begins[k + 1])
        again[k, places[part]] = energies[part]
    assert np.array_equal(again, showers.energies)


@pytest.mark.parametrize(
    ("models", "settings", "sentence"),
    [
        ([], {}, "expected 1 to"),
        ([MODEL, MODEL], {}, "given twice"),
        (["no-such-model"], {}, "no such shipped generator"),
        ([MODEL], {"reference": sample_path("lhcb-test")}, "another read-out"),
    ],
)
def test_models_that_cannot_be_shown(models: Any, settings: Any, sentence: str) -> None:
    with pytest.raises(CaloForgeError, match=sentence):
        load_explored(models, **settings)


# --- server ----------------------------------------------------------------------------------
def test_the_server_makes_the_showers_of_the_package(server: ExplorerServer) -> None:
    noise = normals(3, 0, 4, 100)
    conditions = np.full((4, 1), 65536.0)
    status, content, headers = ask(
        server, f"{server.token}/generate?model={MODEL}&count=4", floats(conditions, noise)
    )
    assert status == 200 and float(headers["X-Seconds"]) > 0
    energies = np.frombuffer(content, "<f4").reshape(4, 368)
    generator = caloforge.Generator(MODEL, seed=3, engine="torch")
    expected = generator.showers({"energy": 65536.0}, 4).energies
    assert np.abs(energies - expected).max() <= 1e-5 * 65536


def test_the_server_writes_a_file_of_showers(server: ExplorerServer, tmp_path: Path) -> None:
    body = floats([[65536.0]] * 2, normals(5, 0, 2, 100))
    path = f"{server.token}/save?model={MODEL}&count=2&seed=5"
    status, content, headers = ask(server, path, body)
    assert status == 200 and headers["X-File"] == f"{MODEL}.hdf5"
    (tmp_path / "showers.hdf5").write_bytes(content)
    with open_showers(tmp_path / "showers.hdf5") as source:
        assert len(source) == 2 and source.geometry.name == "ds1-photons"
        assert str(source.provenance["seed"]) == "5"


def test_the_server_gives_the_files_of_the_page(server: ExplorerServer) -> None:
    status, content, headers = ask(server, f"{server.token}/")
    assert status == 200 and content == page_file("index.html")[0]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    status, content, _ = ask(server, f"{server.token}/explorer.json")
    assert status == 200 and json.loads(content)["backend"] == "server"
    status, content, _ = ask(server, f"{server.token}/reference-ds1-photons.bin")
    assert status == 200 and struct.unpack("<2I", content[:8]) == (506, 368)


def test_the_server_answers_only_its_own_page(server: ExplorerServer) -> None:
    for path in ("", "explorer.json", f"{server.token}", f"{server.token}x/", "wrong/"):
        assert ask(server, path)[0] == 404, path
    assert ask(server, f"{server.token}/", host="somewhere.else")[0] == 404
    for path in ("../page.py", "%2e%2e/page.py", "build.json", "reference-x.bin"):
        assert ask(server, f"{server.token}/{path}")[0] == 404, path


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        (f"model={MODEL}&count=1", floats([1.0]), 400),
        (f"model={MODEL}&count=0", b"", 400),
        (f"model={MODEL}&count=101", floats(np.zeros(101 * 101)), 413),
        (f"model={MODEL}&count=x", b"", 400),
        ("model=other&count=1", floats(np.zeros(101)), 404),
        (f"model={MODEL}&count=1", floats([np.nan], np.zeros(100)), 400),
        (f"model={MODEL}&count=1", floats([0.0], np.zeros(100)), 400),
        (f"model={MODEL}&count=1", floats([1e4], np.full(100, np.inf)), 400),
    ],
)
def test_what_cannot_be_answered(
    server: ExplorerServer, query: str, body: bytes, status: int
) -> None:
    found, content, _ = ask(server, f"{server.token}/generate?{query}", body)
    assert found == status
    assert content.decode().endswith(".") and b"Traceback" not in content


def test_a_port_that_browsers_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr("caloforge.explore.server.HTTP_PORT", port)
    with ExplorerServer(load_explored([MODEL]), port=port) as running:
        for host in ("127.0.0.1", "localhost"):
            assert ask(running, f"{running.token}/", host=host)[0] == 200
        assert ask(running, f"{running.token}/", host="somewhere.else")[0] == 404


@pytest.mark.parametrize("seed", ["-4", str(2**64), "x"])
@pytest.mark.parametrize("name", ["generate", "save"])
def test_a_seed_that_cannot_be(server: ExplorerServer, name: str, seed: str) -> None:
    query = f"model={MODEL}&count=1&seed={seed}"
    found, content, _ = ask(server, f"{server.token}/{name}?{query}", floats([1e4], np.zeros(100)))
    assert found == 400
    assert b"seed" in content and content.endswith(b".")


def test_an_address_that_is_none_is_answered(server: ExplorerServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_port_that_is_taken(server: ExplorerServer) -> None:
    with pytest.raises(CaloForgeError, match=f"Cannot listen on port {server.port}"):
        ExplorerServer(load_explored([MODEL]), port=server.port)


# --- notebook, site and command ----------------------------------------------------------------
def test_a_notebook_shows_a_frame() -> None:
    shown = caloforge.explore(MODEL, height=500)
    try:
        html = shown._repr_html_()
        assert shown.url in html and 'height="500"' in html and MODEL in repr(shown)
        with urllib.request.urlopen(shown.url, timeout=60) as answer:
            assert answer.status == 200
    finally:
        shown.close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(shown.url, timeout=5)


def test_the_runtime_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = build()
    with pytest.raises(CaloForgeError, match="There is no ort-wasm"):
        find_runtime(tmp_path)
    (tmp_path / facts["wasm"]).write_bytes(b"something else")
    with pytest.raises(CaloForgeError, match="is not the ort-wasm"):
        find_runtime(tmp_path)
    facts = {**facts, "sha256": hashlib.sha256(b"the runtime").hexdigest()}
    monkeypatch.setattr("caloforge.explore.site.build", lambda: facts)
    place = tmp_path / "web" / DIST
    place.mkdir(parents=True)
    (place / facts["wasm"]).write_bytes(b"the runtime")
    monkeypatch.chdir(tmp_path)
    assert find_runtime() == b"the runtime"


def test_a_runtime_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caloforge.explore.site.DIST", Path("nowhere"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CaloForgeError, match="npm install onnxruntime-web@"):
        write_site([], tmp_path / "site")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--runtime", "x"], "only a static site"),
        (["--out", "x", "--engine", "torch"], "a static site has neither"),
        (["--out", "x", "--port", "8000"], "a static site has neither"),
        (["--port", "70000"], "expected 0 to 65535"),
        (["no-such-model"], "no such shipped generator"),
        (["--reference", "no-such-sample"], "neither a file nor a shipped sample"),
    ],
)
def test_the_command_refuses(options: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["explore", *options])
    assert result.exit_code != 0 and sentence in str(result.exception)
