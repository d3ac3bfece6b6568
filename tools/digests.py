"""Add digests to model files that were written before there were any, without touching a weight.

    python tools/digests.py src/caloforge/pretrained/*/model.safetensors

Only the header of a file grows; the bytes of the tensors are copied as they are. A file that has
digests already is checked and left as it is.
"""

import argparse
import json
import struct
from pathlib import Path

from safetensors import safe_open

from caloforge.files import atomic_path
from caloforge.models.digests import KEY, digests, read_checked
from caloforge.models.file import FORMAT


def main() -> None:
    """Add digests to the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args().files:
        before = path.stat().st_size
        added = add_digests(path)
        now = path.stat().st_size
        print(f"{path}: {f'{before} -> {now} bytes' if added else 'has digests already'}")


def add_digests(path: Path) -> bool:
    """Add the digests of what the file holds now. Returns False when it has some, which are then
    checked.
    """
    tensors, description = read_checked(path, FORMAT)
    with safe_open(path, framework="pt") as file:
        if KEY in file.metadata():
            return False
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"][KEY] = digests(tensors, {FORMAT: description})
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors to 8 bytes
    with atomic_path(path) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    read_checked(path, FORMAT)
    return True


if __name__ == "__main__":
    main()
