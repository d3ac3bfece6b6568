"""What Geant4 simulates, and where its data sets are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge.errors import SimulationError, did_you_mean
from caloforge.simulate.particles import Particle

ELECTROMAGNETIC = (
    "standard",
    "option1",
    "option2",
    "option3",
    "option4",
    "livermore",
    "penelope",
    "dna",
)
HADRONIC = (
    "none",
    "FTFP_BERT",
    "FTFP_BERT_HP",
    "QGSP_BERT",
    "QGSP_BERT_HP",
    "QGSP_BIC",
    "QGSP_BIC_HP",
)
# The variable that names the folder with Geant4's data sets, and where calzone puts them.
VARIABLE = "GEANT4_DATA_DIR"
FOLDER = (".local", "share", "calzone", "data")


@dataclass(frozen=True)
class Physics:
    """What Geant4 simulates.

    Parameters
    ----------
    electromagnetic
        Electromagnetic physics, one of `ELECTROMAGNETIC`.
    hadronic
        List of hadronic processes, one of `HADRONIC`. With "none", photons and electrons still
        have nuclear reactions above about 130 MeV, because calzone always has them, but what comes
        out of these leaves the calorimeter without hadronic interaction.
    cut
        Production cut in mm: secondary particles with a shorter range are not made. 0.7 mm is
        Geant4's own default.
    """

    electromagnetic: str = "standard"
    hadronic: str = "none"
    cut: float = 0.7

    def __post_init__(self) -> None:
        for what, got, valid in (
            ("electromagnetic physics", self.electromagnetic, ELECTROMAGNETIC),
            ("hadronic physics", self.hadronic, HADRONIC),
        ):
            if got not in valid:
                raise SimulationError(f"Unknown {what} '{got}': {did_you_mean(got, valid)}")
        if not 0 < self.cut < 1000:
            raise SimulationError(
                f"Got the production cut {self.cut:g} mm; expected a number above 0."
            )

    @classmethod
    def suited_to(
        cls,
        particles: Iterable[Particle],
        electromagnetic: str = "standard",
        hadronic: str | None = None,
        cut: float = 0.7,
    ) -> Physics:
        """Physics for some particles: hadronic processes are by default FTFP_BERT when one of them
        is a hadron, and none otherwise.
        """
        hadrons = any(not p.electromagnetic for p in particles)
        return cls(electromagnetic, hadronic or ("FTFP_BERT" if hadrons else "none"), cut)


def load_calzone(physics: Physics) -> Any:
    """The module calzone, with Geant4's data sets found.

    Raises SimulationError when calzone or the data sets are missing, or when there are none for
    the hadronic physics. Nothing is asked and nothing is downloaded.
    """
    folder = data_folder()
    if physics.hadronic != "none" and not any(folder.glob("G4PARTICLEXS*/neutron/*")):
        raise SimulationError(
            f"The Geant4 data in {folder} have no cross sections of hadrons, which "
            f"{physics.hadronic} needs; get Geant4's own data sets (2 GB) with `python -m calzone "
            f"download` and unset {VARIABLE}, or choose --hadronic none."
        )
    try:
        import calzone
    except ImportError as error:
        raise SimulationError(
            "calzone, which brings Geant4, is not installed; install it with `pip install "
            "'caloforge[simulate]'`, or choose --engine parametric."
        ) from error
    return calzone


def data_folder() -> Path:
    """Folder of Geant4's data sets. Raises SimulationError when there is none."""
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else Path.home().joinpath(*FOLDER)
    if not any(folder.glob("G4EMLOW*")):
        where = f"{VARIABLE} names {folder}" if named else f"they are looked for in {folder}"
        raise SimulationError(
            f"Geant4's data sets are missing ({where}, which holds no G4EMLOW); get them with "
            f"`python -m calzone download` (2 GB), or let {VARIABLE} name the folder of a copy, "
            "or choose --engine parametric."
        )
    return folder


def data_versions() -> str:
    """Names of the data sets that Geant4 reads, which carry their versions."""
    return ", ".join(sorted(f.name for f in data_folder().iterdir() if f.is_dir()))
