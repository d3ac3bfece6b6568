"""The explorer as a static site: any web server can host it, and the browser makes the showers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import caloforge
from caloforge.errors import CaloForgeError, ExportError
from caloforge.explore.describe import Explored, description
from caloforge.explore.page import FILES, build, page_file
from caloforge.explore.reference import packed
from caloforge.export.onnx import export_onnx
from caloforge.files import atomic_folder

PACKAGE = "onnxruntime-web"
# Where npm keeps the files of the package, below a folder in which it was installed.
DIST = Path("node_modules") / PACKAGE / "dist"
NPM_SECONDS = 300


def write_site(explored: Sequence[Explored], out: str | Path, runtime: Path | None = None) -> Path:
    """Write the page, its models as ONNX, Geant4's showers and the runtime into the folder `out`.

    Parameters
    ----------
    explored
        The models; each must have an ONNX export.
    out
        New or empty folder; it is written whole or not at all.
    runtime
        The WASM file of onnxruntime-web, or a folder with it; see `find_runtime`.

    Raises
    ------
    CaloForgeError
        When the folder is not empty or cannot be written, or the runtime is not found.
    ExportError
        When a model has no export.
    """
    with atomic_folder(out) as folder:
        content = find_runtime(runtime)
        (folder / str(build()["wasm"])).write_bytes(content)
        for name in FILES:
            (folder / name).write_bytes(page_file(name)[0])
        for e in explored:
            try:
                export_onnx(e.file, folder / f"{e.name}.onnx")
            except ExportError as error:
                raise ExportError(
                    f"{error} A static site needs ONNX files: leave '{e.name}' out, or open it "
                    "without --out."
                ) from error
            if e.reference is not None:
                path = folder / f"reference-{e.reference.name}.bin"
                path.write_bytes(packed(e.reference.showers))
        text = json.dumps(description(explored, "onnx"))
        (folder / "explorer.json").write_text(text, encoding="utf-8")
    return Path(out)


def find_runtime(given: Path | None = None) -> bytes:
    """The WASM file that the page needs, 14 MB, which the package does not carry.

    It is looked for in `given` (the file or a folder with it), then in `node_modules` of the
    working folder, of its `web` folder and of the clone's, and at last fetched with the command
    `npm pack`, which asks the registry that npm is set up with. Its SHA-256 must be the one that
    the page was built with. Raises CaloForgeError.
    """
    facts = build()
    name = str(facts["wasm"])
    if given is not None:
        path = given / name if given.is_dir() else given
        if not path.is_file():
            raise CaloForgeError(
                f"There is no {name} in {given}; expected the file of the npm package "
                f"{PACKAGE} {facts['version']}, or the folder dist of that package."
            )
        return _checked(path.read_bytes(), path, facts)
    clone = Path(caloforge.__file__).parents[2]
    for folder in (Path.cwd(), Path.cwd() / "web", clone / "web"):
        path = folder / DIST / name
        if path.is_file():
            return _checked(path.read_bytes(), path, facts)
    return _checked(_fetched(facts), Path("what npm fetched"), facts)


def _checked(content: bytes, path: Path, facts: dict[str, Any]) -> bytes:
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise CaloForgeError(
            f"{path} is not the {facts['wasm']} of {PACKAGE} {facts['version']}, with which the "
            "page was built; give that version's file with --runtime."
        )
    return content


def _fetched(facts: dict[str, Any]) -> bytes:
    """The file from npm's own client, in a folder that is removed again."""
    npm = shutil.which("npm")
    wanted = f"{PACKAGE}@{facts['version']}"
    advice = (
        f"A static site needs {facts['wasm']} of the npm package {wanted}: run `npm install "
        f"{wanted}` in the working folder, or give the file with --runtime."
    )
    if npm is None:
        raise CaloForgeError(f"{advice} Neither the file nor npm was found here.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                [npm, "pack", "--silent", wanted],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=NPM_SECONDS,
            )
            (archive,) = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as tar:
                member = tar.extractfile(f"package/dist/{facts['wasm']}")
                if member is None:
                    raise KeyError(facts["wasm"])
                return member.read()
        except (OSError, subprocess.SubprocessError, tarfile.TarError, KeyError, ValueError) as e:
            raise CaloForgeError(f"{advice} npm could not fetch it ({type(e).__name__}).") from e
