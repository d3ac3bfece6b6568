"""The learning curve of a training as a picture for the documents.

    python tools/curve.py RUN OUT.png

PRD-AUC of the held-out showers against the step, for runs that chose by it.
"""

import argparse
from pathlib import Path

from caloforge.report.style import style
from caloforge.report.training import history_of, prd_picture


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    history = [entry for entry in history_of(arguments.run) if "prd_auc_raw" in entry]
    if not history:
        raise SystemExit(f"{arguments.run} has no choices by PRD-AUC; give another run.")
    with style():
        prd_picture(history).figure.savefig(arguments.out, dpi=170)


if __name__ == "__main__":
    main()
