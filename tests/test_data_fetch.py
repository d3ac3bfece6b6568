"""Fetching is tried against a real HTTP server on the loopback address."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from caloforge.data import CATALOGUE, fetch
from caloforge.data import download as module
from caloforge.data.catalogue import PublicData
from caloforge.detector.shipped import geometry_names
from caloforge.errors import CaloForgeError, DataError

CONTENT = np.random.default_rng(1).bytes(1_500_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Archive:
    """What the server does and what it was asked."""

    url: str = ""
    listing: dict | str = field(default_factory=dict)
    ranges: bool = True
    status: int = 200
    cut_after: list[int] = field(
        default_factory=list
    )  # bytes before the connection drops, a request each
    asked: list[str | None] = field(default_factory=list)  # Range headers of file requests


class Handler(BaseHTTPRequestHandler):
    archive: Archive

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if "/api/" in self.path or "/public-api/" in self.path:
            body = json.dumps(self.archive.listing).encode()
            self.answer(200, body)
            return
        asked = self.headers.get("Range")
        self.archive.asked.append(asked)
        if self.archive.status != 200:
            self.answer(self.archive.status, b"no")
        elif asked and self.archive.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.answer(206, CONTENT[start:], f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.answer(200, CONTENT)

    def answer(self, status: int, body: bytes, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        is_file = len(body) > 10_000
        cut = self.archive.cut_after.pop(0) if is_file and self.archive.cut_after else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = True


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    state = Archive()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"archive": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    state.listing = zenodo(state, MD5)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setitem(
        CATALOGUE,
        "toy",
        PublicData("toy", "ds1-photons", "zenodo", "1", "10.1/1", {"toy.hdf5": None}),
    )
    monkeypatch.setitem(
        CATALOGUE, "toy-all", PublicData("toy", "calogan", "mendeley", "x", "10.1/2")
    )
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def zenodo(state: Archive, md5: str, name: str = "toy.hdf5") -> dict:
    links = {"self": f"{state.url}/files/{name}"}
    return {
        "files": [{"key": name, "size": len(CONTENT), "checksum": f"md5:{md5}", "links": links}]
    }


def get(archive: Archive, folder: Path, name: str = "toy") -> list[Path]:
    return fetch(name, folder, base_url=archive.url, progress=False)


def test_a_file_arrives_whole_and_is_not_fetched_twice(archive: Archive, tmp_path: Path) -> None:
    assert get(archive, tmp_path) == [tmp_path / "toy.hdf5"]
    assert (tmp_path / "toy.hdf5").read_bytes() == CONTENT
    get(archive, tmp_path)
    assert archive.asked == [None]
    assert [f.name for f in tmp_path.iterdir()] == ["toy.hdf5"]


def test_mendeley_fetches_all_files_of_the_record(archive: Archive, tmp_path: Path) -> None:
    details = {
        "size": len(CONTENT),
        "sha256_hash": hashlib.sha256(CONTENT).hexdigest(),
        "download_url": f"{archive.url}/files/gamma.hdf5",
    }
    archive.listing = {"files": [{"filename": "gamma.hdf5", "content_details": details}]}
    assert get(archive, tmp_path, "toy-all") == [tmp_path / "gamma.hdf5"]
    assert (tmp_path / "gamma.hdf5").read_bytes() == CONTENT


def test_a_partial_download_goes_on_where_it_stopped(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / ".toy.hdf5.part").write_bytes(CONTENT[:700_000])
    get(archive, tmp_path)
    assert archive.asked == ["bytes=700000-"]
    assert (tmp_path / "toy.hdf5").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(archive: Archive, tmp_path: Path) -> None:
    archive.ranges = False
    (tmp_path / ".toy.hdf5.part").write_bytes(b"x" * 700_000)
    get(archive, tmp_path)
    assert (tmp_path / "toy.hdf5").read_bytes() == CONTENT


def test_a_dropped_connection_is_taken_up_again(archive: Archive, tmp_path: Path) -> None:
    archive.cut_after = [600_000, 500_000]
    get(archive, tmp_path)
    assert (tmp_path / "toy.hdf5").read_bytes() == CONTENT
    assert len(archive.asked) == 3
    assert archive.asked[0] is None
    assert all(r is not None and r.startswith("bytes=") for r in archive.asked[1:])


def test_a_server_that_goes_away_leaves_what_arrived(archive: Archive, tmp_path: Path) -> None:
    archive.cut_after = [300_000] + [0] * 10
    with pytest.raises(CaloForgeError, match="goes on where it stopped"):
        get(archive, tmp_path)
    assert not (tmp_path / "toy.hdf5").exists()
    kept = (tmp_path / ".toy.hdf5.part").read_bytes()
    assert 0 < len(kept) <= 300_000
    assert CONTENT.startswith(kept)
    archive.cut_after = []
    get(archive, tmp_path)
    assert (tmp_path / "toy.hdf5").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(archive: Archive, tmp_path: Path) -> None:
    archive.listing = zenodo(archive, "0" * 32)
    with pytest.raises(DataError, match="another checksum"):
        get(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_of_the_server_is_named(archive: Archive, tmp_path: Path, status: int) -> None:
    archive.status = status
    with pytest.raises(CaloForgeError, match=str(status)):
        get(archive, tmp_path)
    assert not (tmp_path / "toy.hdf5").exists()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(CaloForgeError, match="check the connection"):
        fetch("calogan", tmp_path, base_url="http://127.0.0.1:9", progress=False)


@pytest.mark.parametrize(
    "listing",
    ["text", {}, {"files": [{}]}, {"files": None}, [1], {"files": [{"key": "a", "size": "many"}]}],
)
def test_a_listing_that_is_none(archive: Archive, tmp_path: Path, listing: object) -> None:
    archive.listing = listing  # type: ignore[assignment]
    with pytest.raises(DataError, match="list of files"):
        get(archive, tmp_path)


@pytest.mark.parametrize("name", ["../evil", ".hidden", "a/b"])
def test_a_listing_cannot_choose_the_folder(archive: Archive, tmp_path: Path, name: str) -> None:
    archive.listing = zenodo(archive, MD5, name)
    with pytest.raises(DataError, match="plain file name"):
        get(archive, tmp_path)


def test_a_file_that_changed_or_vanished_upstream(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = PublicData("toy", "ds2", "zenodo", "1", "10.1/1", {"toy.hdf5": "1" * 32})
    monkeypatch.setitem(CATALOGUE, "toy", changed)
    with pytest.raises(DataError, match="has changed"):
        get(archive, tmp_path)
    archive.listing = zenodo(archive, MD5, "other.hdf5")
    with pytest.raises(DataError, match=r"no file 'toy.hdf5' any more; it lists other.hdf5"):
        get(archive, tmp_path)


def test_a_file_larger_than_the_disk_is_not_begun(archive: Archive, tmp_path: Path) -> None:
    archive.listing["files"][0]["size"] = 10**18  # type: ignore[index]
    with pytest.raises(CaloForgeError, match="GB free"):
        get(archive, tmp_path)
    assert archive.asked == []


def test_more_bytes_than_listed_are_refused(archive: Archive, tmp_path: Path) -> None:
    archive.listing["files"][0]["size"] = 1000  # type: ignore[index]
    with pytest.raises(DataError):
        get(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'calochallenge-2'"):
        fetch("calochalenge-2", tmp_path)


def test_the_catalogue_is_sound() -> None:
    for data in CATALOGUE.values():
        assert data.geometry in geometry_names()
        assert data.doi.startswith("10.")
        assert all(md5 is None or len(bytes.fromhex(md5)) == 16 for md5 in data.files.values())
