"""What a mitigation was asked to do: its input, the panel and the traits that count, and what it
needs for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from auditor.data.files import digest_of, suffix_of
from auditor.data.text_row import Span
from auditor.errors import AuditError, InputError, RunError, TraitError
from auditor.mitigating.pipeline import Step
from auditor.mitigating.trainer_files import Format
from auditor.runs.last_scan import LastScan, last_scan
from auditor.traits.panel import BUILT_IN, Panel
from mitigations.recipes import Recipe

_BY_DIVERGENCE = {"mask", "replace", "drop"}
_MOVES_TOKENS = {"replace", "canonicalize", "shuffle"}


def input_of(
    source: str | None, root: Path, output: Path | None
) -> tuple[str, str, LastScan | None]:
    """Name and digest of the data set, and the last scan if it was of these very rows."""
    try:
        scanned = last_scan(root)
    except RunError:
        if source is None:
            raise
        scanned = None
    name = source or (scanned.dataset if scanned else "")
    if name == "-" or (not Path(name).exists() and name.count("/") == 1):
        raise InputError(
            "A stream or a hub data set cannot be written back.",
            "Save it as a file, and give its path.",
        )
    if output is not None and suffix_of(output) in (
        ".parquet",
        ".jsonl",
        ".json",
        ".csv",
        ".tsv",
        ".ndjson",
    ):
        raise InputError(
            f"{output} is to be a folder: the data set and its manifest.",
            "Give the name of a folder.",
        )
    digest = digest_of(name)
    if scanned and scanned.sha256 != digest:
        if source is None:
            raise InputError(
                f"{name} has changed since it was scanned.", f"Scan it again: audit scan {name}"
            )
        scanned = None
    return name, digest, scanned


def panels_of(scanned: LastScan | None, named: Sequence[str] = ()) -> Sequence[str]:
    """The panels that count: those named, else the scan's if they are built in, else the default."""
    known = scanned and scanned.panels and set(scanned.panels) <= set(BUILT_IN)
    return named or (scanned.panels if scanned and known else ["default"])


def check_order(steps: Sequence[Step], masked: Mapping[int, tuple[Span, ...]]) -> None:
    """Raise AuditError where a mitigation would move the tokens that an earlier mask names."""
    names = [step.name for step in steps]
    since = 0 if masked else names.index("mask") if "mask" in names else len(names)
    for name in names[since:]:
        if name in _MOVES_TOKENS:
            raise AuditError(
                f"--{name} after --mask would move the masked tokens.", "Put --mask last."
            )


def needs_trait(steps: Sequence[Step], recipes: Sequence[Recipe]) -> bool:
    return bool(_BY_DIVERGENCE & {step.name for step in steps}) or "inoculation" in recipes


def needs_model(steps: Sequence[Step], recipes: Sequence[Recipe], emit: Sequence[Format]) -> bool:
    own = any(
        s.name == "mix" and not (s.settings["clean_data"] or s.settings["clean_teachers"])
        for s in steps
    )
    by_score = bool(_BY_DIVERGENCE & {step.name for step in steps})
    return own or by_score or "freeze" in recipes or bool({"trl", "axolotl"} & set(emit))


def traits_of(
    panel: Panel, named: Sequence[str], scanned: LastScan | None, *, needed: bool
) -> tuple[str, ...]:
    """The traits whose divergence tokens count. TraitError when they are needed and not known."""
    if not needed:
        return ()
    if list(named) == ["all"]:
        return tuple(trait.name for trait in panel.traits)
    if named:
        return tuple(trait.name for trait in panel.select(list(named)).traits)
    if scanned and scanned.trait:
        return (panel.trait(scanned.trait).name,)
    raise TraitError(
        "No scan of these rows names a trait.",
        "Give --trait NAME or --trait all, or scan them first.",
    )
