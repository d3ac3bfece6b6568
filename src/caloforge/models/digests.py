"""Digests in safetensors files: a byte that changed in a weight or in the description is noticed.

A file carries one digest for each tensor (over its type, shape and bytes) and one for each text of
its description (recipe, conditions, trained ranges, transform, hyper-parameters). Files that were
written before there were digests are read as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from caloforge.errors import ModelError

KEY = "caloforge-digests"
SIZE = 8  # bytes of a digest: damage stays unnoticed once in 2^64 times
# What other software may write beside the description.
_FOREIGN = {"format"}


def digests(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The digests of all tensors and texts of a file, as JSON."""
    return json.dumps(
        {
            "metadata": {key: _digest(text.encode()) for key, text in metadata.items()},
            "tensors": {key: _tensor_digest(value) for key, value in tensors.items()},
        },
        separators=(",", ":"),
    )


def sort_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into alphabetical order.

    The library writes several texts in an order that differs from process to process; the same
    training has to give the same bytes.
    """
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def read_checked(path: Path, key: str) -> tuple[dict[str, Tensor], str]:
    """Tensors of a safetensors file and the text that its metadata hold under `key`.

    Raises
    ------
    ModelError
        When a tensor or the text is not what was written, or the file does not have the key.
    SafetensorError, OSError, ValueError, RecursionError
        When the file cannot be read at all.
    """
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        if key not in metadata:
            kind = key.removeprefix("caloforge-")
            raise ModelError(
                f"{path} is a safetensors file, but not a CaloForge {kind}: expected one from "
                "`caloforge train`."
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    written = metadata.pop(KEY, None)
    unknown = sorted(set(metadata) - {key} - _FOREIGN)
    if unknown:
        raise ModelError(
            f"{path} describes itself under the unknown key {unknown[0]!r}; expected {key} and "
            f"{KEY}: it is damaged, fetch or write it again."
        )
    if written is not None:
        _compare(path, json.loads(written), json.loads(digests(tensors, {key: metadata[key]})))
    return tensors, metadata[key]


def _compare(path: Path, written: object, present: dict[str, dict[str, str]]) -> None:
    """Raise ModelError, naming the first part that differs."""
    if not isinstance(written, dict):
        raise ModelError(f"The digests in {path} are damaged; fetch or write it again.")
    for kind, name in (("metadata", "description"), ("tensors", "weight")):
        expected = written.get(kind)
        if expected == present[kind]:
            continue
        known = expected if isinstance(expected, dict) else {}
        odd = [k for k in {**present[kind], **known} if known.get(k) != present[kind].get(k)]
        raise ModelError(
            f"The {name} {odd[0] if odd else ''} in {path} is not what was written (its digest is "
            f"{present[kind].get(odd[0]) if odd else None}; expected "
            f"{known.get(odd[0]) if odd else None}): the file is damaged, fetch or write it again."
        )


def _digest(content: bytes | memoryview) -> str:
    return blake2b(content, digest_size=SIZE).hexdigest()


def _tensor_digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    content = flat.view(torch.uint8).numpy() if flat.numel() else flat.to(torch.uint8).numpy()
    hashed = blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=SIZE)
    hashed.update(content.data)
    return hashed.hexdigest()
