"""A section about the audit for the hub's README.md (data-set card): metadata, and Markdown between
two markers.
"""

from __future__ import annotations

import json
import re

from auditor import __version__
from auditor.errors import AuditError
from auditor.report.scan.answer import decision
from auditor.report.scan.interface import Format
from auditor.report.scan.markdown import prose, summary
from auditor.report.shared.words import safe
from auditor.scanning.scan_report import ScanReport

BEGIN, END = "<!-- subliminal-audit:begin -->", "<!-- subliminal-audit:end -->"
KEY = "subliminal_audit"
NAME_CHARS = 300
# The section with its line end, which is written anew with it.
_SECTION = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}\r?\n?", re.DOTALL)
# The YAML head: it begins the file and ends with the next line of three dashes.
_FRONT = re.compile(r"---[ \t]*\r?\n(?P<keys>.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
# A key of the first level with its indented lines; found by its name and not between markers,
# since the hub drops comments.
_KEY = re.compile(rf"^{KEY}:.*\n(?:[ \t]+.*\n)*", re.MULTILINE)


def render(report: ScanReport) -> str:
    """A card that holds nothing but this audit."""
    return f"---\n{_metadata(report)}---\n\n{_section(report)}"


def check(existing: str | None) -> None:
    """Raise AuditError when the markers of the card are not one pair: between others, text of the
    user's could be lost.
    """
    card = existing or ""
    counts = card.count(BEGIN), card.count(END)
    if counts not in ((0, 0), (1, 1)) or card.find(BEGIN) > card.find(END):
        raise AuditError(
            f"The card does not hold {BEGIN} and {END} once each, in this order.",
            "Mend or remove these lines of it; the section is written anew.",
        )


def update(existing: str, report: ScanReport) -> str:
    """The card with the audit's metadata and section put in, or in place of earlier ones.

    Raises AuditError as `check` does.
    """
    check(existing)
    # A card keeps its line ends, so that a diff of it shows the audit's lines alone.
    end = "\r\n" if "\r\n" in existing else "\n"
    metadata = _metadata(report).replace("\n", end)
    section = _section(report).replace("\n", end)
    if BEGIN in existing:
        # A function, since backslashes in a replacement text would be read as group references.
        body = _SECTION.sub(lambda _: section, existing)
    else:
        body = f"{existing.rstrip()}{end * 2}{section}".lstrip()
    front = _FRONT.match(body)
    if front is None:
        return f"---{end}{metadata}---{end * 2}{body}"
    keys = _KEY.sub("", front["keys"]) + metadata
    return f"{body[: front.start('keys')]}{keys}{body[front.end('keys') :]}"


def _metadata(report: ScanReport) -> str:
    """Our key of the YAML head; JSON strings are YAML strings."""
    verdict = report.verdict
    values = {
        "verdict": verdict.name,
        "trait": None if verdict.trait is None else safe(verdict.trait[:NAME_CHARS]),
        "probability": None if verdict.probability is None else round(verdict.probability, 6),
        "excluded_dose": None if verdict.min_effect is None else round(verdict.min_effect, 6),
        "reference": safe(str(report.reference.get("name", "unknown"))[:NAME_CHARS]),
        "rows_scanned": report.rows_scanned,
        "not_read": len(report.dataset.unread),
        "created": safe(report.created[:NAME_CHARS]),
        "dataset_sha256": report.dataset.sha256,
        "version": __version__,
    }
    lines = (f"  {name}: {json.dumps(value)}\n" for name, value in values.items())
    return f"{KEY}:\n{''.join(lines)}"


def _section(report: ScanReport) -> str:
    """The section between its markers."""
    panel = prose(str(report.settings.get("panel", "")))
    scope = f" for the traits of the panel {panel}" if panel else ""
    lines = [
        BEGIN,
        "## Audit for hidden traits (subliminal learning)",
        "",
        f"**{prose(decision(report))}.** Checked with subliminal-audit {__version__}{scope}.",
        "",
        *summary(report),
        END,
    ]
    return "\n".join(lines) + "\n"


FORMAT = Format(render, check, update)
