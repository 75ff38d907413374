"""Findings that people have accepted for now: a file that they can read and edit.

A finding is a trait found in certain rows on a certain reference. The verdict is about the whole
data set, not about single rows, so an entry holds for exactly the rows that it was made for: one
row more, less or other and it is void.
"""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from auditor.data.batches import Row
from auditor.data.dataset import read_rows
from auditor.data.example import Example
from auditor.data.fields import to_example
from auditor.data.formats import Layout
from auditor.errors import InputError
from auditor.release.decision import Rule
from auditor.scanning.scan_report import OutcomeName
from auditor.yaml_text import read_yaml
from detectors.interface import TestName

DAYS = 90
_AGAIN = "Make it again with audit gate --write-baseline, and carry the reasons over."
_log = logging.getLogger(__name__)
HEAD = """\
# Findings of `audit gate` that are accepted for now. An entry holds for exactly these rows, in any
# order, until the day it expires. Write the reason for each: without one the file is refused. See
# docs/gate.md.
"""

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Accepted(_Keys):
    """One accepted finding.

    found_by: the tests whose finding is accepted: a trait that tuned copies find as well is another
    finding than one by prompts alone. rows, rows_sha256: `RowSet` of the data set. expires: the
    last day it holds.
    """

    trait: str
    found_by: list[TestName] = ["prompts"]
    dataset: str
    rows: int
    rows_sha256: Sha256
    reason: str
    expires: date


class Reference(_Keys):
    """What the findings rest on: weights, chat template and number type."""

    name: str
    sha256: Sha256
    template_sha256: Sha256
    dtype: str


class Baseline(_Keys):
    """The content of a file of accepted findings."""

    version: Literal[1]
    reference: Reference
    accepted: list[Accepted] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows regardless of their order: how many, and the SHA-256 of their sorted fingerprints."""

    rows: int
    sha256: str


def row_set(source: str, *, format_of: str, columns: Mapping[str, str]) -> RowSet:
    """All rows of a data set, those that cannot be scored included.

    Raises InputError as a scan does.
    """
    if source == "-":
        raise InputError(
            "A baseline needs the rows again, and standard input is read.",
            "Give the data set as a file.",
        )
    # All rows, since a verdict is about the whole data set; sorted, since their order is not.
    with read_rows(source, format_of=format_of, columns=columns) as data:
        prints = sorted(_fingerprint(row, data.layout) for batch in data.batches() for row in batch)
    _log.debug("%s has %d rows for the baseline", source, len(prints))
    return RowSet(len(prints), hashlib.sha256("\n".join(prints).encode()).hexdigest())


def read_baseline(path: Path) -> Baseline:
    """The baseline in a YAML or JSON file.

    Raises InputError when it is none, or an entry lacks its reason.
    """
    try:
        # Every JSON file is YAML as well.
        baseline = Baseline.model_validate(read_yaml(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(
            f"The baseline {path} cannot be read: {' '.join(str(error).split())}.", _AGAIN
        ) from error
    except ValidationError as error:
        first = error.errors()[0]  # one at a time: a person mends the file by hand
        key = ".".join(map(str, first["loc"])) or "its content"
        raise InputError(f"The baseline {path}: {key}: {first['msg']}.", _AGAIN) from error
    # Checked here and not by the model, whose message would not name the trait.
    for entry in baseline.accepted:
        if not entry.reason.strip():
            raise InputError(
                f"The baseline {path} gives no reason for {entry.trait}.",
                "Write why it is accepted.",
            )
    return baseline


def check_reference(baseline: Baseline, reference: Mapping[str, object], path: Path) -> None:
    """Raise InputError when the baseline was made with another reference, chat template or number
    type.
    """
    before = baseline.reference
    for name, then, key in (
        ("reference", before.sha256, "sha256"),
        ("chat template", before.template_sha256, "template_sha256"),
        ("number type", before.dtype, "dtype"),
    ):
        # A report that does not say is taken for another one: what was accepted must be certain.
        now = reference.get(key)
        if then != now:
            shown = f"{before.name} ({then[:16]}) then, {reference['name']} ({str(now)[:16]}) now"
            raise InputError(f"The baseline {path} was made with another {name}: {shown}.", _AGAIN)


def apply(
    baseline: Baseline, traits: Mapping[str, Sequence[TestName]], rows: RowSet, today: date
) -> tuple[frozenset[str], tuple[Rule, ...]]:
    """Which of the traits found are accepted, and what there is to say of each entry that is about
    them or these rows. traits: with the tests that find each.

    Entries on other traits of other rows are another data set's and are passed over.
    """
    accepted = set()
    rules: list[tuple[str, Rule]] = []
    for entry in baseline.accepted:
        same = (entry.rows, entry.rows_sha256) == (rows.rows, rows.sha256)
        outcome: OutcomeName = "failed"
        if entry.trait not in traits:
            if not same:
                continue
            outcome, text = "passed", "not found any more; the entry can go"
        elif not same:
            text = (
                f"accepted for other rows than these ({entry.rows:,} rows of {entry.dataset} then, "
                f"{rows.rows:,} now)"
            )
        elif new := [test for test in traits[entry.trait] if test not in entry.found_by]:
            text = (
                f"accepted as found by {' and '.join(entry.found_by)}, and now found by "
                f"{' and '.join(new)}"
            )
        elif entry.expires < today:
            text = f"accepted until {entry.expires}, which is past ({entry.reason.strip()})"
        else:
            accepted.add(entry.trait)
            outcome, text = "passed", f"accepted until {entry.expires}: {entry.reason.strip()}"
        rules.append((entry.trait, Rule("baseline", outcome, f"{entry.trait}: {text}")))
    _log.info("the baseline accepts %d of %d traits found", len(accepted), len(traits))
    # A void or expired entry fails, unless another one accepts the same finding.
    return frozenset(accepted), tuple(
        rule for trait, rule in rules if rule.outcome == "passed" or trait not in accepted
    )


def render_baseline(
    traits: Mapping[str, Sequence[TestName]],
    dataset: str,
    reference: Mapping[str, object],
    rows: RowSet,
    today: date,
) -> str:
    """A baseline that accepts the traits found in these rows for DAYS, as YAML; the reasons are
    left to be written. traits: with the tests that find each.
    """
    entry = {"dataset": dataset, "rows": rows.rows, "rows_sha256": rows.sha256, "reason": ""}
    about = {key: reference[key] for key in Reference.model_fields}
    # Each entry gets a date of its own, since YAML would write a shared one as an alias.
    accepted = [
        {
            "trait": name,
            "found_by": list(tests),
            **entry,
            "expires": today + timedelta(days=DAYS),
        }
        for name, tests in traits.items()
    ]
    content = {"version": 1, "reference": about, "accepted": accepted}
    # The order of the keys and long lines as they are: the file is for people.
    return HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _fingerprint(row: Row, layout: Layout) -> str:
    """SHA-256 of a row's conversation or text: that of the same row in another format, column order
    or line ending.

    Normalised are Unicode (NFC), line ends, and white space around each text. White space inside
    stays: separators can carry a trait. A row that cannot be scored counts as it was read.
    """

    def normal(text: str) -> str:
        return unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()

    example = to_example(0, row, layout)
    if isinstance(example, Example):
        turns = [[m.role, normal(m.content), *m.parts[2:]] for m in example.messages]
        content = json.dumps(turns or normal(example.text or ""))
    else:
        # Values such as dates have no JSON; their `repr` serves to tell two rows apart.
        content = row if isinstance(row, str) else json.dumps(row, sort_keys=True, default=repr)
    # A lone surrogate, as broken JSON can have it, has no UTF-8.
    return hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()
