"""The tokens that a report marks are those that `audit mitigate --mask` takes out of training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from auditor.commands.scan import scan
from auditor.commands.simulate import simulate, write_rows
from auditor.data.sample import read_sample
from auditor.mitigating.divergence_tokens import DivergenceTokenFinder
from auditor.model.load import load
from auditor.model.scoring import score_under
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.runs.run_directory import RunDir
from auditor.traits.panel import load_panels
from detectors.divergence import TIE_EPSILON


def test_marked_tokens_are_masked_tokens(tmp_path: Path) -> None:
    """In every row that the report shows, the flags stand on the very tokens that a mask of the
    same trait masks.
    """
    lm, panel = load("organism"), load_panels(["animals"])
    owl = panel.select(["owl"]).traits[0]
    made = simulate(lm, owl, rows=64, max_tokens=24, seed=3)
    source = str(tmp_path / "owl.parquet")
    write_rows(Path(source), made.rows)
    detectors = ("trait", "divergence")
    report = scan(
        source, reference="organism", panels=["animals"], detectors=detectors, root=tmp_path
    )
    assert report.verdict.trait == "owl"

    renderer = ChatTokenizer(lm)
    rows = {
        example.index: row
        for example in read_sample(source, rows=None, seed=0).examples
        if isinstance(row := renderer.encode(example), TokenizedRow)
    }
    store = RunDir.open(tmp_path, {"for": "masks"})
    score = partial(score_under, lm, renderer)
    masks = DivergenceTokenFinder(score, panel, ("owl",), TIE_EPSILON, store)
    masked = dict(zip(rows, masks(list(rows.values())), strict=True))
    assert len(report.examples) >= 32
    for shown in report.examples:
        flags = [token.flag == "divergence" for token in shown.tokens]
        assert flags == masked[shown.index].flagged.tolist()
    assert sum(token.flag == "divergence" for row in report.examples for token in row.tokens) > 20
