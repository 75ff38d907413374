"""What a mitigation is asked to do: its input, the panel and the traits that count, and what it
needs for them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from auditor.data.files import check_source, digest_of
from auditor.data.folder import SUFFIXES, suffix_of
from auditor.errors import AuditError, InputError, RunError, TraitError
from auditor.mitigating.settings import MitigateSettings
from auditor.runs.last_scan import LastScan, last_scan
from auditor.traits.panel import Panel, all_known
from mitigations.interface import CleanCompletions, DivergenceBudget, Mitigation, MostDivergentRows

LOG = logging.getLogger(__name__)


def input_of(
    source: str | None, root: Path, output: Path | None, *, skips_broken: bool = False
) -> tuple[str, str, LastScan | None]:
    """Name and digest of the data set, and the last scan if it was of these very rows.
    skips_broken: see `open_source`.
    """
    try:
        scanned = last_scan(root)
    except RunError:
        if source is None:
            raise
        scanned = None
    name = source or (scanned.dataset if scanned else "")
    if name == "-" or not Path(name).exists():
        check_source(name)
        raise InputError(
            "A stream, a pattern, an address or a hub data set cannot be written back.",
            "Save it as a file, and give its path.",
        )
    if output is not None and suffix_of(output) in SUFFIXES:
        raise InputError(
            f"{output} is to be a folder: the data set and its manifest.",
            "Give the name of a folder.",
        )
    digest = digest_of(name, skips_broken=skips_broken)
    LOG.info("data set %s, sha256 %s", name, digest)
    if scanned and scanned.sha256 != digest:
        if source is None:
            raise InputError(
                f"{name} has changed since it was scanned.", f"Scan it again: audit scan {name}"
            )
        # Another data set than the one scanned is no fault, but the scan says nothing about it.
        LOG.info("the last scan was of other rows, and does not count")
        scanned = None
    return name, digest, scanned


def reference_of(scanned: LastScan | None, settings: MitigateSettings) -> dict[str, str | None]:
    """The reference that counts, and how rows are put to it (`chat_template`, `system`): as named,
    else as the scan has it, else the base.
    """
    named = {
        "reference": settings.reference or settings.base,
        "chat_template": settings.chat_template,
        "system": settings.system,
    }
    if settings.reference is not None or scanned is None:
        return named
    return {
        "reference": scanned.reference,
        "chat_template": settings.chat_template or scanned.chat_template,
        "system": settings.system or scanned.system,
    }


def panels_of(scanned: LastScan | None, named: Sequence[str] = ()) -> Sequence[str]:
    """The panels that count: those named, else the scan's if they are built in, else the
    default.
    """
    if named:
        return named
    # A panel of the user's own may have moved or changed since the scan: it has to be named.
    if scanned and scanned.panels and all_known(scanned.panels):
        return scanned.panels
    return ["default"]


def check_order(steps: Sequence[Mitigation], *, masked: bool) -> None:
    """Raise AuditError where a mitigation would move the tokens that an earlier mask names, be it
    one of `steps` or one that the input brought along (masked).
    """
    for step in steps:
        if masked and step.moves_tokens:
            raise AuditError(
                f"--{step.name} after --mask would move the masked tokens.", "Put --mask last."
            )
        masked |= step.name == "mask"


def needs_divergence(steps: Sequence[Mitigation]) -> bool:
    """Whether a mitigation works on the divergence tokens of a trait."""
    return any(isinstance(step.needs, DivergenceBudget | MostDivergentRows) for step in steps)


def needs_reference(steps: Sequence[Mitigation], settings: MitigateSettings) -> bool:
    """Whether a mitigation, a recipe or a trainer's file needs the reference itself."""
    if needs_divergence(steps):
        return True
    for step in steps:
        needs = step.needs
        if isinstance(needs, CleanCompletions) and not (needs.clean_data or needs.clean_teachers):
            return True
    return "freeze" in settings.recipes or bool({"trl", "axolotl"} & set(settings.emit))


def traits_of(
    panel: Panel,
    steps: Sequence[Mitigation],
    settings: MitigateSettings,
    scanned: LastScan | None,
) -> tuple[str, ...]:
    """The traits whose divergence tokens count; none where no mitigation and no recipe is about the
    tokens or the prompt of a trait. TraitError when they are needed and none is named.
    """
    if not needs_divergence(steps) and "inoculation" not in settings.recipes:
        return ()
    if settings.traits == ("all",):
        return tuple(trait.name for trait in panel.traits)
    if settings.traits:
        return tuple(trait.name for trait in panel.select(list(settings.traits)).traits)
    if scanned and scanned.trait:
        return (panel.trait(scanned.trait).name,)
    raise TraitError(
        "No scan of these rows names a trait.",
        "Give --trait NAME or --trait all, or scan them first.",
    )
