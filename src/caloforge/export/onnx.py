"""ONNX: a generator as one file that ONNX Runtime runs, from Python, C++ and many others.

Inputs `noise` (N, Z), standard normal, and `condition` (N, C) in physical units; output `energies`
(N, V) in MeV; all float32, N free. The transform is inside. The metadata of the file say what its
columns and cells are (see `metadata`).
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import caloforge
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import embedded_geometry
from caloforge.errors import CaloForgeError, ExportError, first_line
from caloforge.export.parity import Float32, Parity, check_parity, trained_ranges
from caloforge.files import atomic_path
from caloforge.models import Refusal
from caloforge.models.file import ModelFile

# The operators that PyTorch's exporter writes. A file states the lowest opset and IR version that
# its own graph needs (`lowest_versions`); IR 8, of opset 15 to 18, is read by every ONNX Runtime
# since 1.14 (February 2023).
OPSET = 18
FORMAT = "caloforge-generator"
SCHEMA = 1
# A protobuf message holds no more; a larger model would need files beside its own.
MOST_BYTES = 2**31 - 1
# Rows of the batch that is traced; torch.export would take 1 for a constant.
EXAMPLE_ROWS = 3
CELL_ORDER = (
    "layer by layer as in the geometry; inside a layer the first axis (alpha of polar layers) is "
    "the slow one"
)


def export_onnx(file: ModelFile, out: str | Path) -> Parity:
    """Write the generator as ONNX to `out`, whole or not at all.

    It is only kept when ONNX Runtime makes the same showers from the file as PyTorch
    (`check_parity`).

    Raises
    ------
    ExportError
        When the model refuses to be exported, or the file fails the check; nothing is written.
    """
    core = exportable_core(file)
    content = onnx_bytes(file, core)
    with atomic_path(out) as temporary:
        temporary.write_bytes(content)
        session = open_session(temporary)

        def run(noise: Float32, condition: Float32) -> NDArray[np.floating]:
            (energies,) = session.run(["energies"], {"noise": noise, "condition": condition})
            return energies

        parity = check_parity(file, core, run)
    return parity.written(Path(out))


def exportable_core(file: ModelFile) -> nn.Module:
    """A copy of what is exported, forward(noise, condition) -> MeV, in evaluation mode on the CPU;
    the model itself stays where and as it is.

    Raises ExportError with the model's reason when it refuses.
    """
    core = file.model.core()
    if isinstance(core, Refusal):
        raise ExportError(f"The model '{file.about['model']}' has no export: {core.reason}")
    return deepcopy(core).eval().to("cpu")


def onnx_bytes(file: ModelFile, core: nn.Module) -> bytes:
    """The ONNX file of `core` with its metadata, serialised and not yet compared with PyTorch.

    Raises ExportError when the graph cannot be written in ONNX, or needs more than 2 GB.
    """
    proto = convert(core, torch_example(file), ["noise", "condition"], "energies", rows="N")
    return serialised(proto, metadata(file))


def torch_example(file: ModelFile) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch to trace the model with: zero noise (N, Z) in the middle of the ranges (N, C)."""
    middle = [
        (c.low * c.high) ** 0.5 if c.scale == "log" else 0.5 * (c.low + c.high)
        for c in file.model.geometry.conditions
    ]
    noise = torch.zeros(EXAMPLE_ROWS, file.model.noise_size)
    return noise, torch.tensor([middle] * EXAMPLE_ROWS, dtype=torch.float32)


def convert(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: list[str],
    output: str,
    *,
    rows: str | None,
) -> Any:
    """The ModelProto of `module`, traced with `example`; `rows` names a free first dimension
    (none: that of the example stays).

    Raises ExportError when the graph cannot be written in ONNX.
    """
    require("onnx", "onnxscript")
    free = None if rows is None else ({0: torch.export.Dim(rows)},) * len(example)
    try:
        with _quiet(), torch.no_grad():
            traced = torch.export.export(module, example, dynamic_shapes=free, strict=False)
            program = torch.onnx.export(
                traced,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=inputs,
                output_names=[output],
                verbose=False,
            )
    except Exception as error:  # the exporter raises of every kind
        raise ExportError(
            f"The generator cannot be written as ONNX: {first_line(error).rstrip('.')}; see "
            "CONTRIBUTING.md for what a model may do when sampling."
        ) from error
    assert program is not None
    proto = program.model_proto
    strange = stranger(proto)
    if strange is not None:
        raise ExportError(
            f"The generator cannot be written as ONNX: it becomes {strange}; see CONTRIBUTING.md "
            "for what a model may do when sampling."
        )
    lowest_versions(proto)
    if rows is not None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = rows
    return proto


def lowest_versions(proto: Any) -> None:
    """Let a graph of OPSET's operators state the lowest opset in which all of them are what they
    are in OPSET, and the IR version (the format of the file) that came with it.

    An operator that did not change since opset k means the same in a file of opset k, so that
    nothing has to be converted and older releases of ONNX Runtime can read the file.
    """
    import onnx

    (opset,) = (entry for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    opset.version = max(
        onnx.defs.get_schema(node.op_type, OPSET, "").since_version for node in proto.graph.node
    )
    del proto.opset_import[:]
    proto.opset_import.append(opset)
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)


def serialised(proto: Any, about: dict[str, str]) -> bytes:
    """The file of a graph, with `about` and its opset as its metadata and without the traces of
    where it was made.

    Raises ExportError when it needs more than 2 GB.
    """
    import onnx

    for node in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        node.doc_string = ""
        del node.metadata_props[:]  # where in which source file a node was made
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    proto.producer_name, proto.producer_version = "CaloForge", caloforge.__version__
    proto.doc_string = "A shower generator"
    if "versions" in about:
        versions = {**json.loads(about["versions"]), "opset": proto.opset_import[0].version}
        about = {**about, "versions": json.dumps(versions)}
    for key, value in about.items():
        proto.metadata_props.add(key=key, value=value)
    if not _fits(proto):
        raise ExportError(
            "The generator needs more than 2 GB as ONNX; expected less, what fits into one file: "
            "train a smaller one."
        )
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def _fits(proto: Any) -> bool:
    """Whether a graph can be written into one file."""
    from google.protobuf.message import EncodeError

    try:
        size: int = proto.ByteSize()
    except EncodeError:  # releases of protobuf that do not count that far
        return False
    return size <= MOST_BYTES


def require(*packages: str) -> None:
    """Raise ExportError when packages of the extra `export` are not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"Exports need the package {' and '.join(missing)}: pip install caloforge[export]."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages and warnings of the exporter."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def metadata(file: ModelFile) -> dict[str, str]:
    """What the file says about itself: everything a reader needs to use it, as text or JSON.

    `geometry` is that of `Geometry.to_dict`; `conditions` are the columns of the input in order
    with unit, scale and the range of the training showers (of the geometry, where not known).
    """
    geometry, about = file.model.geometry, file.about
    conditions = [
        {"name": c.name, "unit": c.unit, "scale": c.scale, "low": c.low, "high": c.high}
        for c in geometry.conditions
    ]
    trained = trained_ranges(file)
    for column in conditions:
        column["low"], column["high"] = trained[str(column["name"])]
    return {
        "format": FORMAT,
        "schema": str(SCHEMA),
        "model": str(about["model"]),
        "recipe": str(about.get("recipe", {}).get("name", "")),
        "seed": str(about.get("seed", "")),
        "noise": "standard normal",
        "energies": "MeV",
        "cells": CELL_ORDER,
        "conditions": json.dumps(conditions),
        "geometry": json.dumps(geometry.to_dict()),
        "geometry_hash": geometry.hash,
        "versions": json.dumps({**about.get("versions", {}), "exporter": caloforge.__version__}),
    }


def open_session(source: str | Path | bytes, threads: int = 1) -> Any:
    """An onnxruntime.InferenceSession on the CPU.

    Raises ExportError when ONNX Runtime cannot use the file.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base class of their own
        where = "The ONNX data" if isinstance(source, bytes) else str(source)
        raise ExportError(f"{where} cannot be run by ONNX Runtime: {first_line(error)}") from error


@dataclass(frozen=True)
class OnnxGenerator:
    """A generator read from an ONNX file: `sample` is all it does.

    Parameters
    ----------
    about
        The metadata of the file.
    """

    geometry: Geometry
    noise_size: int
    about: dict[str, str]
    session: Any

    def sample(self, condition: NDArray[np.number], noise: NDArray[np.number]) -> Float32:
        """Showers in MeV (N, V) from conditions (N, C) in physical units and noise (N, Z).

        Numbers of other types are rounded to the 32-bit floats that the file takes. Raises
        ExportError for arrays of another shape.
        """
        widths = {"noise": self.noise_size, "condition": len(self.geometry.conditions)}
        given = {"noise": np.asarray(noise), "condition": np.asarray(condition)}
        for name, array in given.items():
            if array.ndim != 2 or array.shape != (len(given["noise"]), widths[name]):
                shapes = " and ".join(f"{key} {value.shape}" for key, value in given.items())
                raise ExportError(
                    f"Got {shapes}; expected as many rows of each, with {widths['noise']} columns "
                    f"of noise and {widths['condition']} of conditions."
                )
        feed = {name: array.astype(np.float32) for name, array in given.items()}
        try:
            result: Float32 = self.session.run(["energies"], feed)[0]
        except Exception as error:  # its errors have no base class of their own
            raise ExportError(
                f"ONNX Runtime cannot make these showers ({first_line(error).rstrip('.')}); "
                "expected an untouched file of `caloforge export`."
            ) from error
        return result


def load_onnx(path: str | Path, *, threads: int = 1) -> OnnxGenerator:
    """Open a file of `export_onnx`; nothing but the file itself is read, and no code of it run.

    Raises
    ------
    ExportError
        For a missing, damaged or foreign file, one that refers to other files or to operators
        that are not ONNX's own, or whose geometry was changed.
    """
    require("onnx")
    import onnx

    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"Cannot read the ONNX file {path}: {error.strerror}.") from error
    try:
        proto = onnx.load_model_from_string(content)
        inputs = {value.name: value for value in proto.graph.input}
        about = {entry.key: entry.value for entry in proto.metadata_props}
    except Exception as error:  # protobuf's own errors
        raise ExportError(
            f"{path} is no ONNX file; expected one of `caloforge export`."
        ) from error
    if about.get("format") != FORMAT or set(inputs) != {"noise", "condition"}:
        raise ExportError(
            f"{path} is no generator of CaloForge; expected a file of `caloforge export`."
        )
    if not about.get("schema", "").isdigit() or int(about["schema"]) > SCHEMA:
        raise ExportError(
            f"{path} was written by a newer CaloForge; expected schema {SCHEMA} or older: update "
            "the package."
        )
    strange = stranger(proto)
    if strange is not None:
        raise ExportError(
            f"{path} has {strange}, which no generator of CaloForge has; expected a file of "
            "`caloforge export`."
        )
    try:
        geometry = embedded_geometry(json.loads(about["geometry"]), about.get("geometry_hash"))
        size = int(inputs["noise"].type.tensor_type.shape.dim[1].dim_value)
    except (CaloForgeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ExportError(
            f"{path} does not describe its read-out ({type(error).__name__}: {error}); expected "
            "an untouched file of `caloforge export`."
        ) from error
    return OnnxGenerator(geometry, size, about, open_session(content, threads))


def stranger(proto: Any) -> str | None:
    """What a graph has that no generator may have: weights in other files, operators from
    elsewhere, or graphs inside graphs.
    """
    import onnx

    tensors = list(proto.graph.initializer)
    for node in proto.graph.node:
        if node.domain not in ("", "ai.onnx"):
            return f"operators of '{node.domain}'"
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                return "a graph inside a graph"
            tensors.append(attribute.t)
    if proto.functions or proto.graph.sparse_initializer:
        return "functions or sparse weights"
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in tensors):
        return "weights in other files"
    return None
