"""The tokens that a report marks are those of the trait that the verdict names, whichever test
finds it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import detectors.trait
import detectors.tuned
from auditor.commands.scan import scan
from auditor.commands.simulate import simulate, write_rows
from auditor.data.example import Example, Message
from auditor.inference.trait_evidence import TraitEvidence
from auditor.model.load import load
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.scanning.scan_report import ScanReport
from auditor.traits.panel import load_panels
from detectors.divergence import counterfactuals, diverge
from detectors.interface import Detector, Evidence, Finding, Skipped, TestName, TraitTest

LM, PANEL = load("organism"), load_panels(["animals"])
NAMES = [trait.name for trait in PANEL.traits]  # owl comes first


def detector_of(name: str, test: TestName, trait: str, p_adjusted: float) -> Detector:
    """A detector whose test of the panel has the strongest evidence for `trait`."""
    strongest = TraitEvidence(trait, "animal", 0.5, (0.3, 0.7), 4, 1e-4, p_adjusted, 64, 640)
    finding = Finding(
        Evidence(name, "made up", {}), TraitTest(test, (strongest,), dict.fromkeys(NAMES, 0.1), 64)
    )
    return Detector(name, "made up", "rows", lambda _: finding, test=test)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, str]]:
    """Rows that the organism wrote itself, as in rows.parquet."""
    written = simulate(LM, None, rows=64, max_tokens=16, seed=4).rows
    write_rows(tmp_path / "rows.parquet", written)
    return [{"prompt": row["prompt"], "completion": row["completion"]} for row in written]


def audit(folder: Path, *names: str) -> ScanReport:
    return scan(
        str(folder / "rows.parquet"),
        reference="organism",
        panels=["animals"],
        detectors=names,
        root=folder,
    )


def flags_of(trait: str, rows: list[dict[str, str]]) -> dict[int, list[bool]]:
    """The divergence tokens of every row for `trait`, from the definition."""
    renderer = ChatTokenizer(LM)
    encoded = [
        row
        for i, texts in enumerate(rows)
        if isinstance(
            row := renderer.encode(
                Example(
                    i, (Message("user", texts["prompt"]), Message("assistant", texts["completion"]))
                )
            ),
            TokenizedRow,
        )
    ]
    by_teacher = {
        name: score_under(LM, renderer, encoded, PANEL.trait(name).prompts[0], top=1)
        for name in (trait, *counterfactuals(PANEL, trait))
    }
    divergence = diverge(encoded, (trait, by_teacher.pop(trait)), by_teacher)
    return {
        row.index: flagged.tolist()
        for row, flagged in zip(encoded, divergence.flagged, strict=True)
    }


def check_marks(report: ScanReport, trait: str, rows: list[dict[str, str]], folder: Path) -> None:
    """The report's figures, its example rows and tokens.parquet are of `trait`."""
    assert report.leading_trait == trait
    assert not isinstance(report.divergence, Skipped)
    assert report.divergence["trait"] == trait
    rivals = list(counterfactuals(PANEL, trait))
    assert report.divergence["counterfactuals"] == rivals
    flagged = [token for row in report.examples for token in row.tokens if token.flag]
    assert flagged
    for token in flagged:
        factual, *others = token.choices
        assert factual.model == trait
        assert len({other.model for other in others} & set(rivals)) == 3
    (path,) = folder.glob(".audit/runs/*/tokens.parquet")
    table: dict[int, list[bool]] = defaultdict(list)
    for token in pq.read_table(path, columns=["row", "divergence"]).to_pylist():
        table[token["row"]].append(token["divergence"])
    assert table == flags_of(trait, rows)


def test_a_trait_that_copies_alone_find_is_marked(
    rows: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts lean towards the cat and find nothing; copies find the wolf."""
    monkeypatch.setattr(detectors.trait, "DETECTOR", detector_of("trait", "prompts", "cat", 0.5))
    monkeypatch.setattr(
        detectors.tuned, "DETECTOR", detector_of("tuned", "tuned copies", "wolf", 1e-4)
    )
    report = audit(tmp_path, "trait", "tuned", "divergence")
    assert (report.verdict.name, report.verdict.trait) == ("risk", "wolf")
    check_marks(report, "wolf", rows, tmp_path)


@pytest.mark.parametrize(("p_adjusted", "verdict"), [(1e-4, "risk"), (0.5, "no_risk")])
def test_without_the_test_by_prompts_copies_lead(
    rows: list[dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    p_adjusted: float,
    verdict: str,
) -> None:
    """Never the first trait of the panel, whether the leading trait is found or not."""
    monkeypatch.setattr(
        detectors.tuned, "DETECTOR", detector_of("tuned", "tuned copies", "wolf", p_adjusted)
    )
    report = audit(tmp_path, "tuned", "divergence")
    assert report.verdict.name == verdict
    check_marks(report, "wolf", rows, tmp_path)


@pytest.mark.usefixtures("rows")
def test_without_any_test_nothing_is_marked(tmp_path: Path) -> None:
    """No trait stands in for one that was tested."""
    report = audit(tmp_path, "divergence")
    assert report.divergence == Skipped("no trait was tested, and no teacher is declared")
    assert (report.leading_trait, report.examples) == (None, ())
    (path,) = tmp_path.glob(".audit/runs/*/tokens.parquet")
    assert set(pq.read_table(path)["divergence"].to_pylist()) == {None}
