"""The public originals: which data sets there are, where they lie, and their checksums where
these are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class PublicData:
    """One public data set.

    Parameters
    ----------
    title
        Name of the data set for people.
    geometry
        Name of the geometry that its files have.
    host
        Archive that keeps the data set.
    record
        Number of the data set in the archive.
    doi
        Identifier under which the data set is cited.
    files
        File name to MD5 checksum, None where only the archive knows the checksum; empty for all
        files of the record. The archive is asked for names, sizes and checksums at every fetch,
        and a file that differs from an MD5 given here is refused.
    """

    title: str
    geometry: str
    host: Literal["zenodo", "mendeley"]
    record: str
    doi: str
    files: Mapping[str, str | None] = field(default_factory=dict)


# MD5 sums as used by public training code for these records; those of data set 1 agree in several
# independent places.
CATALOGUE: dict[str, PublicData] = {
    "calochallenge-1-photons": PublicData(
        title="CaloChallenge data set 1, photons (ATLAS-like, 368 voxels)",
        geometry="ds1-photons",
        host="zenodo",
        record="8099322",
        doi="10.5281/zenodo.8099322",
        files={
            "dataset_1_photons_1.hdf5": "005d2adeda7db034b388112661265656",
            "dataset_1_photons_2.hdf5": "4767715ed56e99565fd9c67340661e70",
        },
    ),
    "calochallenge-1-pions": PublicData(
        title="CaloChallenge data set 1, charged pions (ATLAS-like, 533 voxels)",
        geometry="ds1-pions",
        host="zenodo",
        record="8099322",
        doi="10.5281/zenodo.8099322",
        files={
            "dataset_1_pions_1.hdf5": "6a5f52722064a1bcd8a0bc002f16515d",
            "dataset_1_pions_2.hdf5": "fee7457b40127bc23c8ab909e2638ca0",
        },
    ),
    "calochallenge-2": PublicData(
        title="CaloChallenge data set 2, electrons (6480 voxels)",
        geometry="ds2",
        host="zenodo",
        record="6366270",
        doi="10.5281/zenodo.6366270",
        files={
            "dataset_2_1.hdf5": "e590333e9a2da51b258288d74bd8357a",
            "dataset_2_2.hdf5": "7a56fd68aa53ded37c2ac445694d9736",
        },
    ),
    "calochallenge-3": PublicData(
        title="CaloChallenge data set 3, electrons (40500 voxels)",
        geometry="ds3",
        host="zenodo",
        record="6366323",
        doi="10.5281/zenodo.6366323",
        files={
            "dataset_3_1.hdf5": "d33f03418aa311b0965452fcbef1ff87",
            "dataset_3_2.hdf5": "911dec2c40aafa64a07b7450b80881bf",
            "dataset_3_3.hdf5": "5ea62f6831a1821bb5035fafc9f030e8",
            "dataset_3_4.hdf5": "5e8d82e6a6c28c6914a3b602a1cfa299",
        },
    ),
    "calogan": PublicData(
        title="CaloGAN showers of positrons, photons and charged pions, perpendicular",
        geometry="calogan",
        host="mendeley",
        record="pvn3xc3wy5",
        doi="10.17632/pvn3xc3wy5",
    ),
    "calogan-angles": PublicData(
        title="CaloGAN showers with variable position and angle",
        geometry="calogan",
        host="mendeley",
        record="5fnxs6b557",
        doi="10.17632/5fnxs6b557",
    ),
    "lemurs": PublicData(
        title="LEMURS: electromagnetic showers in five detectors, with variable direction",
        geometry="lemurs",
        host="zenodo",
        record="17045562",
        doi="10.5281/zenodo.17045562",
    ),
}
