"""Settings files and baselines: of any shape, repeated, elsewhere, and far too deep."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from tests.fuzz.drawing import drawn
from tests.fuzz.process import REPORT, SCAN, Case, check, run_case
from tests.fuzz.rows import HOSTILE, jsonl, plain

KEYS = ("reference", "panels", "rows", "seed", "alpha", "dtype", "policy")
RULES = (
    "fail_on",
    "max_probability",
    "max_dose",
    "min_effect",
    "max_skipped",
    "max_unread",
    "mitigation",
    "references",
    "baseline",
)
SHOW = ("config", "show")
GATE = ("gate", "d.jsonl", "--reference", "organism", "--panel", "animals", "--rows", "all")
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.integers(-(10**30), 10**30),
        st.sampled_from([*HOSTILE, "all", "auto", "organism", "animals", "removed", "never"]),
        st.text(max_size=10),
        st.dates(),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(HOSTILE), inner, max_size=2)
    ),
    max_leaves=4,
)
policies = st.dictionaries(st.sampled_from(RULES) | st.text(max_size=6), values, max_size=4)
settings = st.dictionaries(
    st.sampled_from(KEYS) | st.text(max_size=6), values | policies, max_size=4
)


def beside(files: dict[str, bytes | str], *arguments: str, **expected: Any) -> None:
    """Run a command beside these files and a data set."""

    def build(place: Path) -> None:
        (place / "d.jsonl").write_bytes(jsonl(plain()))
        for name, content in files.items():
            data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
            (place / name).resolve().write_bytes(data)

    check(Case(arguments, build, verdict="no_risk", **expected))


@drawn(40, content=settings)
def test_any_audit_yaml(content: dict[str, Any]) -> None:
    """Any keys with any values."""
    beside({"audit.yaml": yaml.safe_dump(content, allow_unicode=True)}, *SHOW)


@drawn(30, content=settings)
def test_any_pyproject(content: dict[str, Any]) -> None:
    """The same as a table; JSON's values are TOML's, but for null."""
    lines = [f"{json.dumps(k)} = {json.dumps(v, default=str)}" for k, v in content.items()]
    beside({"pyproject.toml": "[tool.audit]\n" + "\n".join(lines)}, *SHOW)


@drawn(30, content=st.binary(max_size=200), name=st.sampled_from(["audit.yaml", "pyproject.toml"]))
def test_noise(content: bytes, name: str) -> None:
    """Bytes of no meaning."""
    beside({name: content}, *SHOW)


@drawn(30, policy=policies)
def test_any_policy_in_a_gate(policy: dict[str, Any]) -> None:
    """A gate under any policy that is one."""
    beside({"audit.yaml": yaml.safe_dump({"policy": policy})}, *GATE)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
STRICT = "policy: {references: [nothing-else]}\n"
FILES: dict[str, tuple[dict[str, bytes | str], bool | None]] = {
    "policy twice": ({"audit.yaml": STRICT + "policy: {}\n"}, False),
    "rule twice": ({"audit.yaml": "policy: {references: [x], references: [organism]}"}, False),
    "tag": ({"audit.yaml": "policy: !!python/object/apply:os.system ['touch PWNED']"}, False),
    "laughs": ({"audit.yaml": LAUGHS + "policy: *j\n"}, False),
    "anchor to itself": ({"audit.yaml": "policy: &p {max_dose: *p}"}, False),
    "merge": ({"audit.yaml": "policy: {<<: {references: [nothing-else]}}"}, False),
    "deep": ({"audit.yaml": "policy: " + "[" * 5000 + "]" * 5000}, False),
    "deep mapping": ({"audit.yaml": "policy: " + "{a: " * 3000 + "1" + "}" * 3000}, False),
    "deep table": ({"pyproject.toml": "[tool.audit]\npolicy = " + "[" * 5000 + "]" * 5000}, False),
    "deep keys": ({"pyproject.toml": "[tool.audit." + ".".join("a" * 5000) + "]"}, False),
    "another suffix": ({"audit.yml": STRICT}, False),
    "capitals": ({"Audit.yaml": STRICT}, False),
    "hidden": ({".audit.yaml": STRICT}, None),
    "in the parent folder": ({"../audit.yaml": STRICT}, False),
    "both": ({"audit.yaml": STRICT, "pyproject.toml": "[tool.audit]\nseed = 1"}, False),
    "two documents": ({"audit.yaml": f"{STRICT}---\npolicy: {{}}\n"}, False),
    "utf-16": ({"audit.yaml": STRICT.encode("utf-16")}, False),
    "byte order mark": ({"audit.yaml": b"\xef\xbb\xbf" + STRICT.encode()}, False),
    "carriage returns": ({"audit.yaml": STRICT.replace("\n", "\r")}, False),
    "tab": ({"audit.yaml": "policy:\n\treferences: [nothing]"}, False),
    "a list": ({"audit.yaml": "- policy"}, False),
    "a text": ({"audit.yaml": "policy"}, False),
    "huge number": ({"audit.yaml": "seed: " + "9" * 10_000}, False),
    "huge sexagesimal": ({"audit.yaml": "seed: 1" + ":59" * 3000}, False),
    "not a number": ({"audit.yaml": "policy: {max_probability: .nan}"}, False),
    "infinite": ({"audit.yaml": "policy: {min_effect: .inf}"}, False),
    "null": ({"audit.yaml": "policy: null"}, False),
    "escape": ({"audit.yaml": '"\\e[2J": 1'}, False),
    "a megabyte": ({"audit.yaml": "x" * (1 << 20) + ": 1"}, False),
    "misspelled table": (
        {"pyproject.toml": "[tool.Audit]\nseed = 1\n[tool.audit]\nsed = 1"},
        False,
    ),
    "tool is a list": ({"pyproject.toml": "tool = [1]"}, False),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    """A policy that nothing passes, or none that can be read, never ends with 0."""
    files, passes = FILES[name]
    beside(files, *GATE, passes=passes)


entries = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("trait", "dataset", "rows", "rows_sha256", "reason", "expires", "more"), values
    ),
)
baselines = st.fixed_dictionaries(
    {"version": st.just(1) | values},
    optional={"reference": values, "accepted": st.lists(entries, max_size=3) | values},
)


@drawn(25, content=baselines)
def test_any_baseline(content: dict[str, Any]) -> None:
    """Any baseline in a gate."""
    files = {"b.yaml": yaml.safe_dump(content)}
    beside(files, *GATE, "--baseline", "b.yaml")  # type: ignore[arg-type]


@functools.cache
def risky_baseline() -> dict[str, Any]:
    """A baseline that accepts what the stand-in finds, with a reason."""
    written: list[Any] = []

    def build(place: Path) -> None:
        (place / "d.jsonl").write_bytes(jsonl(plain()))
        written.append(place / "b.yaml")

    outcome = run_case(
        Case((*SCAN, "--output", f"json={REPORT}", "--", "d.jsonl"), build, verdict="risk")
    )
    assert outcome.report is not None and outcome.report["verdict"] == "risk"
    return dict(outcome.report)


@drawn(8, days=st.integers(-4000, 4000), rows=st.integers(0, 100), sha256=st.sampled_from("0af"))
def test_a_baseline_for_other_rows(days: int, rows: int, sha256: str) -> None:
    """An entry for other rows than these accepts nothing."""
    report = risky_baseline()
    reference = {
        key: report["reference"][key] for key in ("name", "sha256", "template_sha256", "dtype")
    }
    entry = {"trait": report["trait"], "dataset": "d.jsonl", "rows": rows, "reason": "known"}
    entry |= {"rows_sha256": sha256 * 64, "expires": f"{2026 + abs(days) % 70}-01-01"}
    content = {"version": 1, "reference": reference, "accepted": [entry]}

    def build(place: Path) -> None:
        (place / "d.jsonl").write_bytes(jsonl(plain()))
        (place / "b.yaml").write_text(yaml.safe_dump(content))

    check(Case((*GATE, "--baseline", "b.yaml"), build, passes=False, verdict="risk"))
