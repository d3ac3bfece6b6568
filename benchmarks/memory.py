"""Memory of `caloforge generate` against the number of showers: it must not grow.

Every count runs in a process of its own, whose largest resident set is read at its end.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from common import table
from generators import photon_generator

from caloforge.generate import Conditions, generate_file

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
LARGE = 10_000_000


def child(count: int, model: str | None) -> None:
    """Generate into a file that is deleted; print peak memory, file size and time."""
    file, _ = photon_generator(model)
    energy = file.model.geometry.conditions[0]
    conditions = Conditions.of(file.model.geometry, {"energy": (energy.low * energy.high) ** 0.5})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "showers.hdf5"
        seconds = generate_file(file, conditions, path, count, extrapolate=True)
        size = path.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(peak, size, seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--model", help="model file or shipped generator")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child, options.model)
    _, name = photon_generator(options.model)
    print(f"\nMemory of generating into a file, {name}")
    rows = []
    for count in options.counts:
        command = [sys.executable, __file__, "--child", str(count)]
        command += ["--model", options.model] if options.model else []
        words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        peak, size, seconds = (float(word) for word in words)
        rows.append(
            [
                f"{count:,}",
                f"{peak / 1e6:.0f}",
                f"{size / 1e6:.1f}",
                f"{1e6 * seconds / count:.1f}",
            ]
        )
    table(["showers", "peak memory MB", "file MB", "µs/shower with file"], rows)
    print(f"  {LARGE:,} showers would fill {size / count * LARGE / 1e9:.1f} GB ", end="")
    print(
        f"(extrapolated from {count:,}); an hour holds {3600 / seconds * count / 1e6:.0f} million"
    )
    return None


if __name__ == "__main__":
    main()
