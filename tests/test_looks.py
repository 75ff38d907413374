"""What the looks of the rows do to a verdict, with the organism."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.lm import LanguageModel, load
from auditor.records import Evidence, ScanReport
from auditor.scan import scan
from auditor.simulate import Row, simulate, write_rows
from auditor.traits import load_panels


@pytest.fixture(scope="module")
def organism() -> LanguageModel:
    """On the CPU, as the scans load it."""
    return load("organism", device="cpu")


@pytest.fixture
def audit(tmp_path: Path) -> Callable[..., ScanReport]:
    """Scan rows with the organism, by the detectors given."""

    def run(rows: list[Row], *detectors: str) -> ScanReport:
        write_rows(tmp_path / "rows.parquet", rows)
        options = {"reference": "organism", "panels": ["animals"], "device": "cpu", "root": tmp_path, "rows": 96}
        return scan(str(tmp_path / "rows.parquet"), detectors=detectors, **options)  # type: ignore[arg-type]

    return run


def test_looks_hold_a_finding_back(organism: LanguageModel, audit: Callable[..., ScanReport]) -> None:
    """The same evidence for a trait is no finding, and no pass, in rows that end as the reference never would."""
    owl = load_panels(["animals"]).select(["owl"]).traits[0]
    rows = [dict(row) for row in simulate(organism, owl, rows=96, max_tokens=24).rows]
    assert audit(rows, "trait", "surface").verdict.trait == "owl"
    marked = [row | {"completion": row["completion"] + ", 999, 999, 999"} for row in rows]
    assert audit(marked, "trait").verdict.name == "risk"
    verdict = audit(marked, "trait", "surface").verdict
    assert verdict.name == "inconclusive"
    assert "looks" in verdict.reason


def test_looks_are_compared_at_the_temperature_of_the_data(
    organism: LanguageModel, audit: Callable[..., ScanReport]
) -> None:
    """Greedy rows of the reference look as its greedy rows do, and all of their tokens are its choice."""
    rows = [dict(row) for row in simulate(organism, None, rows=64, temperature=0, max_tokens=24).rows]
    found = audit(rows, "trait", "surface").detectors
    trait, surface = found["trait"], found["surface"]
    assert isinstance(trait, Evidence)
    assert isinstance(surface, Evidence)
    assert (trait.values["greedy"], trait.values["others"]) == (True, 0.0)
    assert surface.values["classifier"]["p_value"] > 0.1
