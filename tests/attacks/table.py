"""The list of attacks in docs/security.md: `python -m tests.attacks.table` writes it anew."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.attacks.registry import CLASSES, RIGHT, attacks

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"


def table() -> str:
    """The ends that are right, and under every class its attacks, the variants of one in one line,
    as tests/attacks has them.
    """
    lines = [f"- {right}: {words}" for right, words in RIGHT.items()]
    for kind, words in CLASSES.items():
        of_kind = [one for one in attacks() if one.kind == kind]
        lines += ["", f"**{words[0].upper()}{words[1:]}**", ""]
        for name, group in groupby(of_kind, lambda one: one.name.split("[")[0]):
            variants = list(group)
            one = variants[0]
            does = one.does.replace("{case}", " / ".join(case.case.strip() for case in variants))
            severity = "" if one.severity == "control" else f"{one.severity}; "
            lines.append(f"- {does.removesuffix('.')} ({severity}`{name}`: {one.right})")
    return "\n".join(lines)


def page_with_table(page: str) -> str:
    """The page with what stands between its two marks replaced by the present list."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
