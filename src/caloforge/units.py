"""Units inside the package: energies in MeV, lengths in mm, angles in rad. Readers and writers
convert at the border.
"""

MEV = 1.0
KEV = 1e-3
GEV = 1e3
TEV = 1e6
MM = 1.0
CM = 10.0

ENERGY = {"MeV": MEV, "keV": KEV, "GeV": GEV, "TeV": TEV}
LENGTH = {"mm": MM, "cm": CM}
ANGLE = {"rad": 1.0}
