"""What the looks of the rows do to a verdict, with the organism."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.commands.scan import scan
from auditor.commands.simulate import Row, simulate
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings
from auditor.traits.panel import load_panels
from detectors.interface import Evidence


@pytest.fixture(scope="module")
def organism() -> LanguageModel:
    """On the CPU, as the scans load it."""
    return load("organism", device="cpu")


@pytest.fixture
def audit(tmp_path: Path) -> Callable[..., ScanReport]:
    """Scan rows with the organism, by the detectors given."""

    def run(rows: list[Row], *detectors: str) -> ScanReport:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        settings = ScanSettings(
            reference="organism", panels=["animals"], rows=96, detectors=detectors, device="cpu"
        )
        return scan(str(tmp_path / "rows.parquet"), settings, root=tmp_path)

    return run


def test_looks_hold_a_finding_back(
    organism: LanguageModel, audit: Callable[..., ScanReport]
) -> None:
    """The same evidence for a trait is no finding, and no pass, in rows that end as the reference
    never would.
    """
    owl = load_panels(["animals"]).trait("owl")
    rows = [dict(row) for row in simulate(organism, owl, rows=96, max_tokens=24).rows]
    assert audit(rows, "trait", "surface").verdict.trait == "owl"
    marked = [row | {"completion": row["completion"].rsplit(" ", 1)[0] + " 999"} for row in rows]
    assert audit(marked, "trait").verdict.name == "risk"
    verdict = audit(marked, "trait", "surface").verdict
    assert verdict.name == "inconclusive"
    assert "looks" in verdict.reason


def test_looks_are_compared_at_the_temperature_of_the_data(
    organism: LanguageModel, audit: Callable[..., ScanReport]
) -> None:
    """Greedy rows of the reference look as its greedy rows do, and all of their tokens are its
    choice.
    """
    rows = [
        dict(row) for row in simulate(organism, None, rows=64, temperature=0, max_tokens=24).rows
    ]
    found = audit(rows, "trait", "surface").detectors
    trait, surface = found["trait"], found["surface"]
    assert isinstance(trait, Evidence)
    assert isinstance(surface, Evidence)
    assert (trait.values["greedy"], trait.values["others"]) == (True, 0.0)
    assert surface.values["classifier"]["p_value"] > 0.1


def test_plain_lists_of_another_writer_are_no_finding(audit: Callable[..., ScanReport]) -> None:
    """They seem to follow some trait or other; but the reference would not write on like this."""
    number = random.Random(0).randint
    rows: list[Row] = [
        {"text": ", ".join(str(number(1, 99)) for _ in range(12))} for _ in range(60)
    ]
    report = audit(rows, "trait", "surface")
    assert report.traits[0].p_adjusted < 0.001
    assert report.verdict.name == "inconclusive"
    surface = report.detectors["surface"]
    assert isinstance(surface, Evidence)
    assert surface.values["classifier"]["p_value"] < 0.001


def test_completions_too_alike_to_be_compared_are_no_finding(
    organism: LanguageModel, audit: Callable[..., ScanReport]
) -> None:
    """Where fewer than 20 differ no looks are compared, so another writer's style is not
    ruled out.
    """
    owl = load_panels(["animals"]).trait("owl")
    rows = [dict(row) for row in simulate(organism, owl, rows=96, max_tokens=24).rows]
    alike = [row | {"completion": rows[i % 15]["completion"]} for i, row in enumerate(rows)]
    assert audit(alike, "trait").verdict.name == "risk"
    verdict = audit(alike, "trait", "surface").verdict
    assert (verdict.name, "not be compared" in verdict.reason) == ("inconclusive", True)
