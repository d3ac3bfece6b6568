"""The published submissions: the shipped numbers are those of the public tables, and are shown."""

import csv
from pathlib import Path

import pytest

from caloforge.judge.comparison import Comparison
from caloforge.judge.published import DATA_SETS, published
from caloforge.metrics.base import Value
from caloforge.metrics.table import metric
from caloforge.progress import published_rows

COLUMNS = {"auc_low": "binary cls low", "fpd": "FPD * 1e3", "kpd": "KPD * 1e3", "recall": "recall"}


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_numbers_are_those_of_the_public_tables(name: str, published: Path) -> None:
    from caloforge.judge.published import published as shipped

    known = shipped(name)
    assert known is not None
    path = published / f"calochallenge_{name.replace('-', '_')}.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row.name for row in known.rows] == [row["submission name"] for row in rows]
    for ours, theirs in zip(known.rows, rows, strict=True):
        for key, column in COLUMNS.items():
            if theirs[column]:
                value = metric(key).scale * ours.metrics[key][0]
                assert value == pytest.approx(float(theirs[column]), rel=1e-4)


def test_each_data_set_begins_with_its_floor() -> None:
    for name in DATA_SETS:
        known = published(name)
        assert known is not None and known.rows[0].name == "GEANT4"
        assert len({row.name for row in known.rows}) == len(known.rows) > 10
        assert "not across sizes" in known.caution(1000)
        assert "same size" in known.caution(known.n)
    assert published("lhcb") is None


def test_the_rows_are_shown_beside_a_result() -> None:
    mine = Comparison("mine", {"auc_low": Value(0.6, 0.01, 0.5, 500)})
    table = published_rows("ds1-photons", [mine])
    assert table is not None and "yours: 500" in str(table.caption)
    assert [str(column.header) for column in table.columns] == ["submission", "AUC low"]
    assert published_rows("lhcb", [mine]) is None
    assert published_rows("ds2", [Comparison("none", {})]) is None
