"""The files of the explorer's page that are in the package: the bundle that `make web` builds."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from caloforge.errors import CaloForgeError

# The page, its style, its code, the code that runs ONNX in the browser, and the licences of what
# is in them. `build.json` says with which runtime of ONNX the page works.
FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "explorer.js": "text/javascript; charset=utf-8",
    "onnx.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "licences.txt": "text/plain; charset=utf-8",
}
# No request leaves the page's own origin, whatever a file of the page may hold. The page's own
# <meta> says the same on a static site.
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def page_file(name: str) -> tuple[bytes, str]:
    """Content and type of a file of the page. Raises CaloForgeError for another name, and for a
    package without the page.
    """
    if name not in FILES:
        raise CaloForgeError("The page of the explorer has no such file.")
    return _read(name), FILES[name]


def build() -> dict[str, Any]:
    """What the page was built with: the version of onnxruntime-web, and name, size and SHA-256 of
    the WASM file that it loads.
    """
    plain: dict[str, Any] = json.loads(_read("build.json"))
    return plain


@cache
def _read(name: str) -> bytes:
    try:
        return (resources.files("caloforge.explore") / "static" / name).read_bytes()
    except OSError as error:
        raise CaloForgeError(
            f"This installation lacks the explorer's {name}; run `make web` in a clone, or "
            "install the package again."
        ) from error
