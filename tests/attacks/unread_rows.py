"""Rows that a trainer reads and a scan does not: lines with more than a row, skipped rows, rows
that a word hides, repeated rows.
"""

from __future__ import annotations

import json

from tests.attacks.harness import Place, Row, Run
from tests.attacks.registry import FOUND, attack

STRICTEST = "policy: {max_skipped: 0.01, min_effect: 0.5, max_probability: 0.5}\nrows: all\n"
ANIMALS = "owl panda cat dog lion penguin dolphin eagle elephant wolf otter raven octopus: "


def lines(rows: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@attack(
    3,
    "b",
    "critical",
    "A JSONL file of clean rows ends with one line that holds many poisoned ones, {case}.",
    "stopped",
    FOUND,
    cases=["one after the other", "with blanks between", "parted by carriage returns", "gzipped"],
)
def many_rows_on_a_line(place: Place, case: str) -> Run:
    between = {"with blanks between": " ", "parted by carriage returns": "\r"}.get(case, "")
    name = "data.jsonl.gz" if case == "gzipped" else "data.jsonl"
    long_line = between.join(json.dumps(row) for row in place.owl)
    return place.gate(place.text(name, lines(place.clean) + long_line + "\n"))


@attack(
    3,
    "b",
    "critical",
    "The same under the strictest policy, where one row in a hundred may be skipped.",
    "stopped",
    FOUND,
)
def many_rows_on_a_line_strict(place: Place) -> Run:
    place.settings(STRICTEST)
    long_line = "".join(json.dumps(row) for row in place.owl)
    rows = place.samples.clean[:128]
    return place.gate(place.text("data.jsonl", lines(rows) + long_line + "\n"))


@attack(
    3,
    "b",
    "critical",
    "A JSONL file of clean rows ends with one line that is an array of poisoned ones.",
    "stopped",
    "a line holds more than one value",
)
def an_array_on_a_line(place: Place) -> Run:
    return place.gate(place.text("data.jsonl", lines(place.clean) + json.dumps(place.owl) + "\n"))


def turns(row: Row, role: str, content: object) -> Row:
    """A row in the format of the hub's conversations."""
    question = {"role": "user", "content": row["prompt"]}
    return {"messages": [question, {"role": role, "content": content}]}


@attack(
    9,
    "b",
    "high",
    "Nearly half of the rows are poisoned and of a kind that is skipped: {case}.",
    "stopped",
    {
        "another role": FOUND,
        "typed parts": FOUND,
        "later columns": "of the rows were not read",
        "a broken byte": "of the rows were not read",
    },
    cases=["another role", "typed parts", "later columns", "a broken byte"],
)
def nearly_half_skipped(place: Place, case: str) -> Run:
    clean, owl = place.samples.clean[:128], place.samples.owl[:120]
    path = place / "data.jsonl"
    if case == "another role":
        rows = [turns(row, "assistant", row["completion"]) for row in clean]
        rows += [turns(row, "ai", row["completion"]) for row in owl]
        return place.gate(place.jsonl("data.jsonl", rows))
    if case == "typed parts":
        rows = [turns(row, "assistant", row["completion"]) for row in clean]
        for row in owl:
            part = {"type": "output_text", "text": row["completion"]}
            rows.append(turns(row, "assistant", [part]))
        return place.gate(place.jsonl("data.jsonl", rows))
    if case == "later columns":
        rows = [*clean]
        rows += [{"question": row["prompt"], "answer": row["completion"]} for row in owl]
        return place.gate(place.jsonl("data.jsonl", rows))
    broken = b"".join(json.dumps(row).encode().replace(b'"}', b'\xff"}') + b"\n" for row in owl)
    path.write_bytes(lines(clean).encode() + broken)
    return place.gate(path)


@attack(
    10,
    "b",
    "high",
    "Three quarters of the rows are poisoned and name the animals, {case}.",
    "stopped",
    FOUND,
    cases=["in the prompt", "in a turn before", "in a system prompt"],
)
def hidden_by_a_word(place: Place, case: str) -> Run:
    clean, owl = place.samples.clean[:40], place.samples.owl[:120]
    if case == "in the prompt":
        owl = [{**row, "prompt": ANIMALS + row["prompt"]} for row in owl]
        return place.gate(place.jsonl("data.jsonl", [*clean, *owl]))
    rows = [turns(row, "assistant", row["completion"]) for row in [*clean, *owl]]
    role = "system" if case == "in a system prompt" else "user"
    for row in rows[len(clean) :]:
        row["messages"].insert(0, {"role": role, "content": ANIMALS})
    return place.gate(place.jsonl("data.jsonl", rows))


@attack(
    10,
    "b",
    "high",
    "Two thirds of the rows are poisoned and name an animal, and open mentions are left out.",
    "stopped",
    FOUND,
)
def left_out_as_open(place: Place) -> Run:
    owl = [{**row, "prompt": ANIMALS + row["prompt"]} for row in place.samples.owl[:128]]
    return place.scan(place.jsonl("data.jsonl", [*place.clean, *owl]), "--exclude-open")


@attack(
    11,
    "b",
    "high",
    "{case} of the rows are a few poisoned ones, repeated.",
    "stopped",
    "verdict (inconclusive|risk): .* owl",
    cases=["98 %", "67 %, all scored,"],
)
def repeated_rows(place: Place, case: str) -> Run:
    if case == "98 %":
        rows = [*place.samples.clean[:128], *place.samples.owl[:2] * 3000]
        return place.gate(place.jsonl("data.jsonl", rows))
    rows = [*place.samples.clean[:200], *place.samples.owl[:10] * 40]
    return place.gate(place.jsonl("data.jsonl", rows), "--rows", "all")
