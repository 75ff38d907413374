"""Every attack, with what the attacker does and the outcome that is right.

A module of this folder registers its attacks by the decorator `attack`; `test_attacks.py` carries
them out, and `table.py` writes attacks.md and the table of docs/security.md from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.attacks.harness import Place, Run

MODULES = (
    "controls",
    "foreign_code",
    "unread_rows",
    "unread_columns",
    "unread_files",
    "sampling",
    "kept_results",
    "identities",
    "judged_reports",
    "policies",
    "output_paths",
    "settings_files",
    "limits",
)
CLASSES = {
    "-": "a control: no attack",
    "a": "code from the working directory or the data is run",
    "b": "what was not read passes",
    "c": "the sample is known beforehand",
    "d": "kept results of others are believed",
    "e": "a model is another than its name says",
    "f": "a report is judged under other settings than its own",
    "g": "a policy excuses what is no trait",
    "h": "an output overwrites an input, or is led elsewhere",
    "i": "settings are passed over in silence",
    "j": "an input costs memory or time without bound, or ends in a crash",
}
Severity = Literal["control", "critical", "high", "medium"]
Right = Literal["passes", "found", "refused", "stopped", "named", "handled", "untouched"]
RIGHT: dict[Right, str] = {
    "passes": "exit 0",
    "found": "exit 1",
    "refused": "exit 2",
    "stopped": "exit 1, 2 or 3",
    "named": "the first lines name it",
    "handled": "no crash, in bounded time and memory",
    "untouched": "nothing of it is written, run or taken over",
}

FOUND = "[Tt]he completions follow the trait"
"""What a page says where poisoned rows were scored: clean ones pass. Which trait is named is not
asked here: a scan stops at 32 rows where a trait is clear, and of an owl's it may name the eagle.
"""


@dataclass(frozen=True)
class Attack:
    """One case of one attack.

    number: of the finding in the red team's report; 0 for a control. kind: a key of CLASSES.
    does: one sentence, in which `{case}` stands for the variant, `case`. right: a key of RIGHT.
    says: a pattern for what the run has to say, in one line, since its exit code may have another
    cause. carry_out: does it, and returns the run that is judged, or that run and the words of
    which one has to stand in the first lines of its page.
    """

    name: str
    number: int
    kind: str
    severity: Severity
    does: str
    case: str
    right: Right
    says: str
    carry_out: Callable[[Place], Run | tuple[Run, Sequence[str]]]


ATTACKS: dict[str, Attack] = {}


def attack(
    number: int,
    kind: str,
    severity: Severity,
    does: str,
    right: Right,
    says: str | Mapping[str, str] = "",
    *,
    cases: Collection[str] = (),
) -> Callable[[Callable[..., Run | tuple[Run, Sequence[str]]]], object]:
    """Register a function that carries an attack out.

    says: a pattern, or one for every case. cases: names of variants; the function gets the name as
    its second argument, and `{case}` in `does` stands for it.
    """
    assert says or right not in ("refused", "stopped"), does

    def register(carry_out: Callable[..., Run | tuple[Run, Sequence[str]]]) -> object:
        name = carry_out.__name__
        for case in cases or ("",):
            one = Attack(
                name=f"{name}[{case}]" if case else name,
                number=number,
                kind=kind,
                severity=severity,
                does=does,
                case=case,
                right=right,
                says=says if isinstance(says, str) else says[case],
                carry_out=(lambda place, case=case: carry_out(place, case)) if case else carry_out,
            )
            assert one.name not in ATTACKS and kind in CLASSES
            ATTACKS[one.name] = one
        return carry_out

    return register


def attacks() -> list[Attack]:
    """All attacks, by their number."""
    for module in MODULES:
        import_module(f"tests.attacks.{module}")
    return sorted(ATTACKS.values(), key=lambda one: one.number)
