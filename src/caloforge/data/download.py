"""Fetch public data sets: resumed where it stopped, checksummed, written whole or not at all."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge.data.catalogue import CATALOGUE, PublicData
from caloforge.errors import CaloForgeError, DataError, did_you_mean
from caloforge.files import make_folder

_HOSTS = {"zenodo": "https://zenodo.org", "mendeley": "https://data.mendeley.com"}
_PATHS = {"zenodo": "/api/records/{}", "mendeley": "/public-api/datasets/{}"}
# Both archives turn away the default names of HTTP libraries at times.
_AGENT = {"User-Agent": "Mozilla/5.0 (compatible; caloforge)", "Accept-Encoding": "identity"}
_TIMEOUT = (20.0, 60.0)  # seconds to connect and between two pieces
_PIECE = 1 << 18
TRIES = 4


@dataclass(frozen=True)
class RemoteFile:
    """One file of an archive: its `size` is in bytes, its `checksum` is written `md5:...` or
    `sha256:...`.
    """

    name: str
    url: str
    size: int
    checksum: str


def fetch(
    name: str, folder: str | Path, *, base_url: str | None = None, progress: bool = True
) -> list[Path]:
    """Download a public data set of the catalogue.

    A download that was interrupted goes on where it stopped; a file that is already there and
    right is kept.

    Parameters
    ----------
    name
        Key of `CATALOGUE`.
    folder
        Folder into which the files are written.
    base_url
        Scheme and host to ask instead of the archive's own, for a mirror.
    progress
        Whether a progress bar is shown.

    Raises
    ------
    DataError
        For an unknown name, or when what arrives is not what the archive or the catalogue
        promised.
    CaloForgeError
        When the archive cannot be reached or the disk is full.
    """
    if name not in CATALOGUE:
        raise DataError(f"There is no data set '{name}': {did_you_mean(name, CATALOGUE)}")
    data = CATALOGUE[name]
    files = _wanted(data, list_files(data, base_url))
    target = Path(folder)
    make_folder(target)
    free = shutil.disk_usage(target).free
    needed = sum(f.size for f in files if not (target / f.name).exists())
    if needed > free:
        raise CaloForgeError(
            f"'{name}' needs {needed / 1e9:.2f} GB, but {target} has {free / 1e9:.2f} GB free; "
            "choose another folder."
        )
    return [_fetch_one(file, target, progress) for file in files]


def download_size(name: str, base_url: str | None = None) -> int:
    """Bytes of a data set of the catalogue, as its archive lists them now.

    Raises CaloForgeError when the archive cannot be asked.
    """
    data = CATALOGUE[name]
    return sum(file.size for file in _wanted(data, list_files(data, base_url)))


def list_files(data: PublicData, base_url: str | None = None) -> list[RemoteFile]:
    """Files of a record as the archive lists them now.

    Raises CaloForgeError when it cannot be asked.
    """
    import requests

    url = (base_url or _HOSTS[data.host]).rstrip("/") + _PATHS[data.host].format(data.record)
    with _network(url):
        response = requests.get(url, headers=_AGENT, timeout=_TIMEOUT)
        response.raise_for_status()
    try:
        content = response.json()
        read = _zenodo_file if data.host == "zenodo" else _mendeley_file
        files = [read(entry) for entry in content["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{url} does not answer with a list of files ({type(error).__name__}: {error}); see "
            f"https://doi.org/{data.doi}."
        ) from error
    for file in files:
        if Path(file.name).name != file.name or file.name.startswith("."):
            raise DataError(f"{url} lists the file '{file.name}'; expected a plain file name.")
    return files


def _zenodo_file(entry: Any) -> RemoteFile:
    return RemoteFile(
        str(entry["key"]), str(entry["links"]["self"]), int(entry["size"]), str(entry["checksum"])
    )


def _mendeley_file(entry: Any) -> RemoteFile:
    details = entry["content_details"]
    return RemoteFile(
        str(entry["filename"]),
        str(details["download_url"]),
        int(details["size"]),
        f"sha256:{details['sha256_hash']}",
    )


def _wanted(data: PublicData, listed: list[RemoteFile]) -> list[RemoteFile]:
    on_record = {file.name: file for file in listed}
    for name, md5 in data.files.items():
        if name not in on_record:
            raise DataError(
                f"Record {data.record} has no file '{name}' any more; it lists "
                f"{', '.join(sorted(on_record)) or 'nothing'}: see https://doi.org/{data.doi}."
            )
        given = on_record[name].checksum
        if md5 is not None and given.startswith("md5:") and given != f"md5:{md5}":
            raise DataError(
                f"The archive lists '{name}' with {given}, the catalogue with md5:{md5}; the "
                f"public file has changed: see https://doi.org/{data.doi}."
            )
    return [on_record[name] for name in data.files] if data.files else listed


def _fetch_one(file: RemoteFile, folder: Path, progress: bool) -> Path:
    import pooch

    download = _Resuming(folder / f".{file.name}.part", file, progress)
    try:
        with _quiet(pooch.get_logger()), _network(file.url):
            done = pooch.retrieve(
                file.url, file.checksum, fname=file.name, path=folder, downloader=download
            )
    except ValueError as error:  # what pooch raises for a wrong checksum
        raise DataError(
            f"'{file.name}' arrived with another checksum than {file.checksum}; it was deleted: "
            "fetch it again."
        ) from error
    except OSError as error:
        raise CaloForgeError(
            f"Cannot write {folder / file.name}: {error.strerror or error}; free some space and "
            "fetch again, it goes on where it stopped."
        ) from error
    return Path(done)


class _Resuming:
    """Downloader for pooch that keeps what has arrived in a part file and asks only for the
    rest.
    """

    def __init__(self, part: Path, file: RemoteFile, progress: bool) -> None:
        self._part = part
        self._file = file
        self._progress = progress

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        import requests

        for attempt in range(TRIES):
            try:
                self._get_rest(url)
                break
            except (
                requests.exceptions.ConnectionError,
                requests.exceptions.ChunkedEncodingError,
                requests.exceptions.Timeout,
            ):
                if attempt == TRIES - 1:
                    raise
                time.sleep(0.2 * 4**attempt)
        self._part.replace(output_file)

    def _get_rest(self, url: str) -> None:
        import requests

        have = self._part.stat().st_size if self._part.exists() else 0
        if have == self._file.size and have:
            return
        if have > self._file.size:
            self._part.unlink()
            have = 0
        wanted = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(
            url, headers={**_AGENT, **wanted}, stream=True, timeout=_TIMEOUT
        ) as response:
            response.raise_for_status()
            # A server that does not know ranges sends everything (200): start over then.
            follows = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if response.status_code != 206 or not follows:
                have = 0
            self._store(response, have)
        if self._part.stat().st_size < self._file.size:
            raise requests.exceptions.ConnectionError("the connection ended early")

    def _store(self, response: Any, have: int) -> None:
        from tqdm import tqdm

        with (
            self._part.open("ab" if have else "wb") as stream,
            tqdm(
                desc=self._file.name,
                total=self._file.size,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=not self._progress,
            ) as bar,
        ):
            for piece in response.iter_content(_PIECE):
                have += len(piece)
                if have > self._file.size:
                    self._part.unlink()
                    raise ValueError("more bytes than the archive lists")
                stream.write(piece)
                bar.update(len(piece))


@contextmanager
def _network(url: str) -> Iterator[None]:
    import requests

    try:
        yield
    except requests.exceptions.HTTPError as error:
        answer = error.response
        said = f"{answer.status_code} ({answer.reason})" if answer is not None else "an error"
        raise CaloForgeError(
            f"{url} answers {said}; the archive may be down or the record moved: try later."
        ) from error
    except requests.exceptions.RequestException as error:
        raise CaloForgeError(
            f"Cannot get {url}: {type(error).__name__}; check the connection and fetch again, it "
            "goes on where it stopped."
        ) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Silence pooch's messages: the progress bar says the same."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
