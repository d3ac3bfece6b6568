"""Draw the learning curve of a training as a figure for the pages in docs/.

    python tools/curve.py RUN OUT.png

The figure shows, against the training step, the figure of merit of the held-out showers by which
the run chose its generator: PRD-AUC, or chi2/NDF of the total energy.
"""

import argparse
from pathlib import Path

from caloforge.report.style import style
from caloforge.report.training import chi2_picture, history_of, prd_picture


def main() -> None:
    """Draw the curve of the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    history = history_of(arguments.run)
    pictures = {"prd_auc_raw": prd_picture, "chi2_ndf": chi2_picture}
    for key, picture in pictures.items():
        entries = [entry for entry in history if key in entry]
        if entries:
            with style():
                picture(entries).figure.savefig(arguments.out, dpi=170)
            return
    raise SystemExit(
        f"{arguments.run} has no PRD-AUC and no chi2/NDF of held-out showers; expected a run that "
        "chose its generator by one of them."
    )


if __name__ == "__main__":
    main()
