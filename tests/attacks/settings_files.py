"""Settings that are written where they are not read, or twice."""

from __future__ import annotations

from collections.abc import Sequence

from tests.attacks.harness import Place, Run
from tests.attacks.registry import attack

RULE = "policy: {references: [nothing-else]}\n"


@attack(
    20,
    "i",
    "medium",
    "The settings with the policy lie in {case}, where they are not read.",
    "named",
    cases=["audit.yml", ".audit.yaml", "../audit.yaml", "../pyproject.toml"],
)
def settings_not_read(place: Place, case: str) -> tuple[Run, Sequence[str]]:
    place.report(place.clean)
    toml = '[tool.audit.policy]\nreferences = ["nothing-else"]\n'
    place.settings(toml if case.endswith("toml") else RULE, case)
    options = [*("AUDIT_REFERENCE", "AUDIT_PANELS")]
    variables = dict(zip(options, ("organism", "animals"), strict=True))
    run = place.audit("gate", "--report", "report.json", **variables)
    return run, [case.removeprefix("../")]


@attack(
    20,
    "i",
    "medium",
    "The settings have {case} twice, and the first one is stricter.",
    "refused",
    {
        "`policy`": "the key 'policy' stands twice",
        "a rule": "the key 'references' stands twice",
        "`alpha`": "the key 'alpha' stands twice",
    },
    cases=["`policy`", "a rule", "`alpha`"],
)
def repeated_setting(place: Place, case: str) -> Run:
    place.report(place.clean)
    base = "reference: organism\npanels: [animals]\n"
    lines = {
        "`policy`": f"{RULE}policy: {{max_skipped: 0.5}}\n",
        "a rule": "policy:\n  references: [nothing-else]\n  references: [organism]\n",
        "`alpha`": "alpha: 0.5\nalpha: 0.01\n",
    }
    place.settings(base + lines[case])
    return place.audit("gate", "--report", "report.json")


@attack(
    20,
    "i",
    "medium",
    "A {case} has a key twice, and the last one counts.",
    "refused",
    {
        "panel": "p.yaml is not valid YAML: the key 'name' stands twice",
        "baseline": "known.yaml cannot be read: the key 'version' stands twice",
    },
    cases=["panel", "baseline"],
)
def repeated_key_elsewhere(place: Place, case: str) -> Run:
    data = place.jsonl("data.jsonl", place.clean)
    if case == "panel":
        lion = "prompts: [You love lions.], mentions: [lion], group: animal"
        place.text("p.yaml", f"panel: p\ntraits:\n- {{name: owl, name: lion, {lion}}}\n")
        return place.audit("scan", data, "--reference", "organism", "--panel", "p.yaml")
    place.report(place.clean)
    place.text("known.yaml", "version: 1\nversion: 1\nreference: {}\nreference: {}\naccepted: []\n")
    return place.audit("gate", "--report", "report.json", "--baseline", "known.yaml")
