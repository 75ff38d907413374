"""The attacks in words: `python -m tests.attacks.table` writes attacks.md beside this file, which
lists them all, and their number by class into docs/security.md.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.attacks.registry import CLASSES, RIGHT, attacks

LIST = Path(__file__).with_name("attacks.md")
PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
HEAD = """\
# The attacks on the gate

Made by `python -m tests.attacks.table`; do not edit. Every line is an attack, its severity, the
test that carries it out in every variant, and the end that is right:

"""


def page_of_attacks() -> str:
    """Under every class its attacks, the variants of one in one line."""
    lines = [f"- {right}: {words}" for right, words in RIGHT.items()]
    for kind, words in CLASSES.items():
        of_kind = [one for one in attacks() if one.kind == kind]
        lines += ["", f"## {words[0].upper()}{words[1:]}", ""]
        for name, group in groupby(of_kind, lambda one: one.name.split("[")[0]):
            variants = list(group)
            one = variants[0]
            does = one.does.replace("{case}", " / ".join(case.case.strip() for case in variants))
            severity = "" if one.severity == "control" else f"{one.severity}; "
            lines.append(f"- {does.removesuffix('.')} ({severity}`{name}`: {one.right})")
    return HEAD + "\n".join(lines) + "\n"


def page_with_table(page: str) -> str:
    """The page with the table between its two marks replaced by the present one."""
    lines = ["| attack | tried |", "|---|---|"]
    for kind, words in CLASSES.items():
        lines.append(f"| {words} | {sum(one.kind == kind for one in attacks())} |")
    before, rest = page.split(BEGIN)
    return "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{rest.split(END)[1]}"])


if __name__ == "__main__":
    LIST.write_text(page_of_attacks(), encoding="utf-8")
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
