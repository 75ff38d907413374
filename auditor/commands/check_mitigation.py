"""The verb behind `audit mitigate --check` and `--auto`: students say what defences leave of a
trait's effect.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from auditor.commands.mitigate import Mitigated
from auditor.commands.scan import scan
from auditor.commands.verify import verify
from auditor.errors import RunError
from auditor.mitigating.pipeline import Step
from auditor.mitigating.request import panels_of
from auditor.mitigating.settings import step
from auditor.model.builtin import BASE
from auditor.report.scan.json import to_dict as scan_dict
from auditor.report.scan.order import by_evidence
from auditor.report.verify import to_dict as verify_dict
from auditor.runs.run_directory import write_file
from auditor.scanning.scan_report import ScanReport
from auditor.students.result import ArmResult, VerifyReport

REPORT = "check.json"

# What --auto tries: the combinations that keep the most data first, and of equals the cheapest.
CANDIDATES: tuple[tuple[Step, ...], ...] = (
    (step("paraphrase"),),
    (step("mask"),),
    (step("paraphrase"), step("mask")),
    (step("paraphrase"), step("mix", share=0.5)),
    (step("mask"), step("mix", share=0.5)),
    (step("paraphrase"), step("mix", share=0.75)),
)

Apply = Callable[[Sequence[Step]], Mitigated]


@dataclass(frozen=True, slots=True)
class MitigationCheck:
    """What the check of a mitigated set found.

    done: the set. name: of the arm with all defences. before, after: scans of the original and of
    the mitigated set; a mask is not seen by a scan, since the text is the same. students: on the
    original, on the set after each defence alone, and on the set after all of them.
    """

    done: Mitigated
    name: str
    before: ScanReport
    after: ScanReport
    students: VerifyReport

    @property
    def arm(self) -> ArmResult:
        """The students of the set with all defences."""
        return next(arm for arm in self.students.result.arms if arm.name == self.name)


def check(
    done: Mitigated,
    steps: Sequence[Step],
    apply: Apply,
    *,
    trait: str | None = None,
    panels: Sequence[str] = (),
    reference: str | None = None,
    base: str = BASE,
    device: str | None = None,
    budget: float | None = None,
    **options: Any,
) -> MitigationCheck:
    """Check the mitigated set `done`, which `apply` made by `steps`, and write check.json and
    dose.svg into its folder.

    The original is scanned, or its last scan is read again; students are trained
    (`auditor.commands.verify`) on the original, the set, and, with several steps, the sets after
    each alone; the set is scanned with the settings of the first scan. trait: the one to read out;
    None is the one that the scan puts first. budget: seconds for the students. panels, reference:
    None and () are those of the last scan; `base` is the reference without one. options: seed,
    root, progress, as in `auditor.commands.verify`.

    Raises: RunError when there is no trait to look for; AuditError (auditor.errors) otherwise, with
    the next step.
    """
    reference = reference or (done.scanned.reference if done.scanned else base)
    read = {"format_of": done.manifest["format"], "columns": done.manifest["columns"]}
    model: dict[str, Any] = {
        "reference": reference,
        "panels": panels_of(done.scanned, panels),
        "device": device,
        **read,
    }
    alike = (
        model
        | _scan_settings(done)
        | {key: options[key] for key in ("root", "progress") if key in options}
    )
    before = scan(done.source, **alike, remember=False)
    wanted = trait or _trait(before)
    sets = dict(_sets(done, steps, apply))
    students = verify(
        done.source,
        list(sets.values()),
        names=["original", *sets],
        trait=wanted,
        budget=budget,
        **model,
        **options,
    )
    after = scan(str(done.data), **alike, remember=False)
    checked = MitigationCheck(done, _together(steps), before, after, students)
    write_file(
        done.folder / REPORT,
        (json.dumps(to_dict(checked), indent=2, allow_nan=False) + "\n").encode(),
    )
    return checked


def auto(apply: Apply, *, budget: float | None = None, **options: Any) -> Iterator[MitigationCheck]:
    """Check CANDIDATES in their order, each with the time that is left of `budget`, up to the first
    that is removed.

    Arguments: as of `check`. Ends early, before a candidate, when the time is up or the original
    shows no transfer.
    """
    started = time.monotonic()
    for steps in CANDIDATES:
        left = None if budget is None else budget - (time.monotonic() - started)
        if left is not None and left <= 0:
            return
        checked = check(apply(steps), steps, apply, budget=left, **options)
        yield checked
        if checked.arm.verdict == "removed" or not checked.students.result.transferred:
            return


def to_dict(checked: MitigationCheck) -> dict[str, Any]:
    """The check as plain JSON values: the students' report, and what the two scans say (keys of
    their own reports).
    """
    keys = ("verdict", "trait", "risk", "reason", "min_effect", "rows", "traits")
    scans = {
        name: scan_dict(each)
        for name, each in (("before", checked.before), ("after", checked.after))
    }
    found = {name: {key: each[key] for key in keys} for name, each in scans.items()}
    return {"all_defences": checked.name, **found, "students": verify_dict(checked.students)}


def _sets(done: Mitigated, steps: Sequence[Step], apply: Apply) -> Iterator[tuple[str, str]]:
    """Name and path of every set to train on, the one with all defences last but for its random
    control.
    """
    alone = [[each] for each in steps] if len(steps) > 1 else []
    for each in alone:
        yield _together(each), str(apply(each).data)
    yield _together(steps), str(done.data)
    for each in [*alone, list(steps)]:
        if any(one.name == "replace" for one in each):
            yield (
                f"{_together(each)} (random tokens)",
                str(apply([_at_random(one) for one in each]).data),
            )


def _at_random(one: Step) -> Step:
    return replace(one, settings={**one.settings, "random": True}) if one.name == "replace" else one


def _together(steps: Sequence[Step]) -> str:
    return " + ".join(_name(each) for each in steps)


def _name(one: Step) -> str:
    """`mix 0.5`, `mask`: a step as a reader knows it."""
    named = one.settings.get("share", one.settings.get("how"))
    return one.name if named is None else f"{one.name} {named}"


def _scan_settings(done: Mitigated) -> dict[str, Any]:
    """The settings of the last scan, so that it is found again and the second one can be compared
    with it.
    """
    if done.scanned is None:
        return {}
    found = done.scanned.settings
    kept = {key: found[key] for key in ("seed", "detectors", "exclude_open", "alpha", "teacher")}
    return kept | {
        "traits": found["tested"],
        "rows": None if found["rows"] == "all" else found["rows"],
    }


def _trait(report: ScanReport) -> str:
    """What to look for: the trait found, else the one with the strongest evidence."""
    ranked = by_evidence(report.traits)
    if report.verdict.name == "no_risk" or not ranked:
        hint = "Name one with --trait, or leave the check out with --no-check."
        raise RunError(
            "The check could not be made: the scan of the original names no trait to look for.",
            hint,
        )
    return report.verdict.trait or ranked[0].name
