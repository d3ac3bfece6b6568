"""Reference showers from a geometry file: with Geant4 through calzone, or from a parametrisation
that needs nothing.
"""

from caloforge.simulate.beam import Beam
from caloforge.simulate.physics import Physics
from caloforge.simulate.run import Job, simulate_file

__all__ = ["Beam", "Job", "Physics", "simulate_file"]
