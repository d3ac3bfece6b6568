"""Draw the learning curve of a training as a figure for the pages in docs/.

    python tools/curve.py RUN OUT.png

The figure shows PRD-AUC of the held-out showers against the training step. RUN is a training that
chose its generator by PRD-AUC.
"""

import argparse
from pathlib import Path

from caloforge.report.style import style
from caloforge.report.training import history_of, prd_picture


def main() -> None:
    """Draw the curve of the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    history = [entry for entry in history_of(arguments.run) if "prd_auc_raw" in entry]
    if not history:
        raise SystemExit(
            f"{arguments.run} did not choose its generator by PRD-AUC; expected a run whose "
            'recipe has selection.keep = "highest-prd-auc".'
        )
    with style():
        prd_picture(history).figure.savefig(arguments.out, dpi=170)


if __name__ == "__main__":
    main()
