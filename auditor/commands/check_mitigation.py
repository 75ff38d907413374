"""The verb behind `audit mitigate --check` and `--auto`: students say what defences leave of a
trait's effect.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from auditor.commands.mitigate import Mitigated
from auditor.commands.scan import scan
from auditor.commands.verify import verify
from auditor.engine.interface import Engine
from auditor.engine.local import LocalEngine
from auditor.errors import InputError, RunError
from auditor.mitigating.request import panels_of, reference_of
from auditor.mitigating.settings import MitigateSettings
from auditor.progress import Progress
from auditor.report.check import to_html
from auditor.report.scan.json import to_dict as scan_dict
from auditor.report.verify import to_dict as verify_dict
from auditor.runs.run_directory import write_file
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings
from auditor.students.arms import read_arm
from auditor.students.plan import most_blocks, size_of
from auditor.students.result import ArmResult, VerifyReport
from auditor.students.settings import StudentSettings
from mitigations import step
from mitigations.interface import Mitigation

REPORT, PAGE = "check.json", "check.html"
FEWEST_BLOCKS = 2  # of students: one has no interval

# What --auto tries: the combinations that keep the most data first, and of equals the cheapest.
CANDIDATES: tuple[tuple[Mitigation, ...], ...] = (
    (step("paraphrase"),),
    (step("mask"),),
    (step("paraphrase"), step("mask")),
    (step("paraphrase"), step("mix", share=0.5)),
    (step("mask"), step("mix", share=0.5)),
    (step("paraphrase"), step("mix", share=0.75)),
)

Apply = Callable[[Sequence[Mitigation]], Mitigated]
Check = Callable[..., "MitigationCheck"]


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
    steps: Sequence[Mitigation],
    apply: Apply,
    settings: MitigateSettings,
    *,
    trait: str | None = None,
    budget: float | None = None,
    root: Path = Path(),
    engine: Engine = LocalEngine(),  # noqa: B008 (it is frozen)
    progress: Callable[[Progress], None] = lambda _: None,
) -> MitigationCheck:
    """Check the mitigated set `done`, which `apply` made by `steps` and `settings`, and write
    check.json and its page, check.html, into its folder.

    The original is scanned, or its last scan is read again; students are trained
    (`auditor.commands.verify`) on the original, the set, and, with several steps, the sets after
    each alone; the set is scanned with the settings of the first scan. trait: the one to read out;
    None is the one that the scan puts first. budget: seconds for the students. engine: where they
    are trained.

    Where the rows do not suffice for the blocks of StudentSettings there are fewer of them.

    Raises: RunError, before anything is computed, when they do not suffice for two, and when there
    is no trait to look for; AuditError (auditor.errors) otherwise, with
    the next step.
    """
    scanned = done.scanned
    shared: dict[str, Any] = {
        **reference_of(scanned, settings),
        "panels": panels_of(scanned, settings.panels),
        "device": settings.device,
        "format_of": done.manifest.format,
        "columns": done.manifest.columns,
    }
    blocks = _blocks(done)
    # Those of the last scan, so that it is found again and the second one is comparable.
    of_scan = ScanSettings(**shared)
    if scanned is not None:
        last = scanned.settings
        names = ("seed", "detectors", "exclude_open", "alpha", "exclude", "teacher", "rows")
        changes = {name: last[name] for name in names}
        of_scan = replace(of_scan, traits=last["tested"], **changes)
    before = scan(done.source, of_scan, root=root, progress=progress, remember=False)
    sets = dict(_sets(done, steps, apply))
    students = verify(
        done.source,
        list(sets.values()),
        names=["original", *sets],
        trait=trait or _trait(before),
        blocks=blocks,
        budget=budget,
        seed=settings.seed,
        root=root,
        engine=engine,
        progress=progress,
        **shared,
    )
    after = scan(str(done.data), of_scan, root=root, progress=progress, remember=False)
    checked = MitigationCheck(done, _label(steps), before, after, students)
    write_file(
        done.folder / REPORT,
        (json.dumps(to_dict(checked), indent=2, allow_nan=False) + "\n").encode(),
    )
    write_file(done.folder / PAGE, to_html(before, after, students).encode())
    return checked


def auto(apply: Apply, check: Check, *, budget: float | None = None) -> Iterator[MitigationCheck]:
    """Check CANDIDATES in their order, each with the time that is left of `budget` in seconds, up
    to the first that is removed.

    check: the function above, with all but its first two arguments and the budget filled in. Ends
    early, before a candidate, when the time is up or the original shows no transfer.
    """
    started = time.monotonic()
    for steps in CANDIDATES:
        remaining = None if budget is None else budget - (time.monotonic() - started)
        if remaining is not None and remaining <= 0:
            return
        checked = check(apply(steps), steps, budget=remaining)
        yield checked
        if checked.arm.verdict == "removed" or not checked.students.result.transferred:
            return


def to_dict(checked: MitigationCheck) -> dict[str, object]:
    """The check as plain JSON values: the students' report, and what the two scans say (keys of
    their own reports).
    """
    keys = ("verdict", "trait", "probability", "reason", "min_effect", "rows", "traits")
    before, after = scan_dict(checked.before), scan_dict(checked.after)
    return {
        "all_defences": checked.name,
        "before": {key: before[key] for key in keys},
        "after": {key: after[key] for key in keys},
        "students": verify_dict(checked.students),
    }


def _sets(done: Mitigated, steps: Sequence[Mitigation], apply: Apply) -> Iterator[tuple[str, str]]:
    """Name and path of every set to train on, the one with all defences last but for its random
    control.
    """
    alone = [[step] for step in steps] if len(steps) > 1 else []
    for single in alone:
        yield _label(single), str(apply(single).data)
    yield _label(steps), str(done.data)
    for combination in [*alone, steps]:
        controls = [step.random_control or step for step in combination]
        if controls != list(combination):
            yield f"{_label(combination)} (random tokens)", str(apply(controls).data)


def _blocks(done: Mitigated) -> int:
    """How many blocks of students the check has, by the rows that there are."""
    manifest, wanted = done.manifest, StudentSettings()
    original = read_arm(
        done.source, manifest=False, format_of=manifest.format, columns=manifest.columns
    )
    rows = len(original.rows)
    blocks = min(wanted.blocks, max(FEWEST_BLOCKS, most_blocks(rows, wanted.batch)))
    try:
        size_of(rows, blocks, None, None, wanted.batch)
    except InputError as error:
        message = f"The data set is written, but not checked: {error.message}"
        raise RunError(
            message, "Give more rows, or leave the check out with --no-check."
        ) from error
    return blocks


def _label(steps: Sequence[Mitigation]) -> str:
    return " + ".join(step.label for step in steps)


def _trait(report: ScanReport) -> str:
    """What to look for: the trait found, else the one with the strongest evidence."""
    if report.verdict.name == "no_risk" or report.leading_trait is None:
        hint = "Name one with --trait, or leave the check out with --no-check."
        raise RunError(
            "The check could not be made: the scan of the original names no trait to look for.",
            hint,
        )
    return report.leading_trait
