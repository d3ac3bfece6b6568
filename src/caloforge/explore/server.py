"""The explorer's server: showers of the installed package for a page on this machine.

It listens on the loopback interface alone, answers only below a random token in the address and
to the hosts of that interface, and takes bodies of bounded size.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from caloforge.data import create_showers
from caloforge.errors import CaloForgeError, ConditionError
from caloforge.explore.describe import Explored, description
from caloforge.explore.page import SECURITY, page_file
from caloforge.explore.reference import packed
from caloforge.generate.conditions import check_values
from caloforge.generate.engines import Engine, make_engine
from caloforge.generate.showers import provenance
from caloforge.noise import check_seed
from caloforge.showers import Showers

HOST = "127.0.0.1"
MOST_SHOWERS = 100  # showers of one request
HTTP_PORT = 80
PATIENCE = 30.0  # seconds that a silent connection is kept
Float32 = NDArray[np.float32]


class RefusedError(Exception):
    """A request that cannot be answered: a sentence and the status of HTTP."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class ExplorerServer:
    """Answers a page's questions until it is closed. It runs in a thread of its own.

    Parameters
    ----------
    explored
        The models of the page.
    engine
        What runs them: "auto" (PyTorch), "torch", "compile" or "onnx".
    port
        Port of the loopback interface; 0 stands for any free one.

    Raises
    ------
    CaloForgeError
        When the port is taken, or the engine cannot run a model.
    """

    def __init__(
        self, explored: Sequence[Explored], *, engine: str = "auto", port: int = 0
    ) -> None:
        self.models = {e.name: e for e in explored}
        self.engines: dict[str, Engine] = {
            e.name: make_engine(e.file, engine, MOST_SHOWERS) for e in explored
        }
        self.description = json.dumps(description(explored, "server")).encode()
        self.references = {
            f"reference-{e.reference.name}.bin": e.reference.showers
            for e in explored
            if e.reference is not None
        }
        self._packed: dict[str, bytes] = {}
        self.closed = False
        self._lock = threading.Lock()  # the engines share the machine: one request at a time
        self.token = secrets.token_urlsafe(16)
        try:
            self._http = _Listener((HOST, port), self)
        except (OSError, OverflowError) as error:
            raise CaloForgeError(
                f"Cannot listen on port {port} of {HOST}: {getattr(error, 'strerror', error)}; "
                "choose another --port, or none for any free one."
            ) from error
        self.port = self._http.server_address[1]
        self.hosts = {f"{HOST}:{self.port}", f"localhost:{self.port}"}
        if self.port == HTTP_PORT:  # browsers leave it out
            self.hosts |= {HOST, "localhost"}
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the page, with its token."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def close(self) -> None:
        """Stop listening, and answer no page any more. It may be called again."""
        self.closed = True
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5.0)

    def __enter__(self) -> ExplorerServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- answers ---------------------------------------------------------------------------
    def file(self, name: str) -> tuple[bytes, str]:
        """Content and type of a file of the page. Raises RefusedError for another name."""
        if name == "explorer.json":
            return self.description, "application/json"
        if name in self.references:
            with self._lock:
                if name not in self._packed:
                    self._packed[name] = packed(self.references[name])
            return self._packed[name], "application/octet-stream"
        try:
            return page_file(name or "index.html")
        except CaloForgeError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error

    def generate(self, name: str, count: int, body: bytes) -> tuple[Float32, Float32, float]:
        """Conditions (N, C), energies (N, V) in MeV and the seconds they took.

        `body` holds the conditions (N, C) in physical units and then the noise (N, Z), both as
        little-endian 32-bit floats. Raises RefusedError for anything else.
        """
        explored = self.explored(name)
        conditions, noise = self._read(explored, count, body)
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            begin = time.perf_counter()
            try:
                energies = self.engines[name](conditions, noise)
            except Exception as error:  # whatever a foreign model raises: the page tells it
                raise RefusedError(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    f"The model '{name}' cannot make this shower: {type(error).__name__}.",
                ) from error
            seconds = time.perf_counter() - begin
        if not np.isfinite(energies).all():
            raise RefusedError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                f"The model '{name}' makes energies that are no numbers under this condition; "
                "choose one inside its trained range.",
            )
        return conditions, energies.astype(np.float32, copy=False), seconds

    def save(self, name: str, count: int, seed: int, body: bytes) -> tuple[bytes, str]:
        """Showers as an HDF5 file in the read-out's own format, and the file's name."""
        conditions, energies, _ = self.generate(name, count, body)
        explored = self.explored(name)
        about = provenance(explored.file, seed, self.engines[name].name)
        showers = Showers(energies, conditions.astype(np.float64), explored.geometry, about)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "showers.hdf5"
            with create_showers(path, explored.geometry, provenance=about) as writer:
                writer.append(showers)
            return path.read_bytes(), f"{name}.hdf5"

    def explored(self, name: str) -> Explored:
        """The model of this name. Raises RefusedError."""
        if name not in self.models:
            raise RefusedError(
                HTTPStatus.NOT_FOUND,
                f"There is no model '{name[:60]}' here; expected {', '.join(self.models)}.",
            )
        return self.models[name]

    def most_bytes(self, explored: Explored) -> int:
        """Largest body of a request."""
        return 4 * MOST_SHOWERS * _width(explored)

    def _read(self, explored: Explored, count: int, body: bytes) -> tuple[Float32, Float32]:
        columns = len(explored.geometry.conditions)
        expected = 4 * count * _width(explored)
        if not 1 <= count <= MOST_SHOWERS or len(body) != expected:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST,
                f"Got {len(body)} bytes for {count} showers; expected 1 to {MOST_SHOWERS} showers "
                f"of {4 * _width(explored)} bytes each.",
            )
        numbers = np.frombuffer(body, "<f4").astype(np.float32)
        conditions = numbers[: count * columns].reshape(count, columns)
        noise = numbers[count * columns :].reshape(count, explored.file.model.noise_size)
        try:
            for condition, values in zip(explored.geometry.conditions, conditions.T, strict=True):
                check_values(condition, values)
        except ConditionError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        if not np.isfinite(noise).all():
            raise RefusedError(HTTPStatus.BAD_REQUEST, "The noise holds what is no finite number.")
        return conditions, noise


def _width(explored: Explored) -> int:
    """Numbers that one shower is made from."""
    return len(explored.geometry.conditions) + explored.file.model.noise_size


class _Listener(ThreadingHTTPServer):
    """The socket; it knows whom it serves."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, address: tuple[str, int], explorer: ExplorerServer) -> None:
        self.explorer = explorer
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed while it was being answered is no news."""


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "CaloForge", ""
    timeout = PATIENCE
    # Head and body of an answer leave at once: else the body waits 40 ms for the head's receipt.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """A file of the page."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """As GET, without the content."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Showers, or a file of them."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed: the terminal belongs to the command."""

    def _answer(self, respond: Any) -> None:
        if self.server.explorer.closed:  # a page keeps its connection open
            self.close_connection = True
            return
        try:
            respond(self._name())
        except RefusedError as refused:
            # What was not read of the body would be taken for the next request.
            self.close_connection = True
            self._send(str(refused).encode(), "text/plain; charset=utf-8", refused.status)
        except CaloForgeError as error:
            self.close_connection = True
            self._send(
                str(error).encode(), "text/plain; charset=utf-8", HTTPStatus.INTERNAL_SERVER_ERROR
            )

    def _name(self) -> str:
        """What is asked for, below the token. Raises RefusedError without the right one."""
        try:
            path = urlsplit(self.path).path
        except ValueError:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, "The address asked for is none; expected a path."
            ) from None
        token, slash, name = unquote(path).removeprefix("/").partition("/")
        explorer = self.server.explorer
        known = secrets.compare_digest(token.encode(), explorer.token.encode())
        if not known or not slash or self.headers.get("Host") not in explorer.hosts:
            raise RefusedError(
                HTTPStatus.NOT_FOUND, "There is nothing here; open the address of the command."
            )
        return name

    def _get(self, name: str) -> None:
        self._send(*self.server.explorer.file(name))

    def _post(self, name: str) -> None:
        explorer = self.server.explorer
        if name not in ("generate", "save"):
            raise RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here to ask for.")
        given = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        try:
            count, seed = int(given["count"]), int(given.get("seed", 0))
            check_seed(seed)
        except ConditionError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        except (KeyError, ValueError):
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, "Expected the whole numbers `count` and `seed`."
            ) from None
        model = given.get("model", "")
        body = self._body(explorer.most_bytes(explorer.explored(model)))
        if name == "save":
            content, file = explorer.save(model, count, seed, body)
            self._send(content, "application/octet-stream", extra={"X-File": file})
            return
        _, energies, seconds = explorer.generate(model, count, body)
        self._send(
            energies.astype("<f4").tobytes(),
            "application/octet-stream",
            extra={"X-Seconds": f"{seconds:.9f}"},
        )

    def _body(self, most: int) -> bytes:
        """The body of the request, of bounded size."""
        stated = self.headers.get("Content-Length", "")
        size = int(stated) if stated.isdecimal() and len(stated) < 16 else -1
        if not 0 <= size <= most:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"Expected a body of at most {most} bytes whose length is stated.",
            )
        return self.rfile.read(size)

    def _send(
        self,
        content: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        extra: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in {**SECURITY, **(extra or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
