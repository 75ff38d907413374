"""Steps for `auditor.commands.mitigate`: with their defaults filled in, and with the package that a
third party's comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from auditor import plugins
from auditor.errors import AuditError
from auditor.mitigating.pipeline import Step
from mitigations import MITIGATIONS

# None stands for a setting that has to be given.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "paraphrase": {
        "variants": 1,
        "engine": "rules",
        "paraphraser": "",
        "embeddings": None,
        "endpoint": {"api_key_env": None, "concurrency": 8, "retries": 4, "cap": None},
    },
    "mix": {"share": None, "mode": "replace", "clean_data": None, "clean_teachers": []},
    "mask": {"budget": None},
    "replace": {"budget": None, "random": False},
    "canonicalize": {"how": None},
    "drop": {"share": None},
    "shuffle": {},
}
_NEEDED = {"mix": "share", "canonicalize": "how", "drop": "share"}


def step(name: str, **settings: Any) -> Step:
    """A mitigation with its settings, the others at their defaults: `step("mix", share=0.5)`.

    The settings are listed in `auditor.commands.mitigate.mitigate`; a mitigation of another package
    has none. Raises: AuditError for a setting that the mitigation does not have, or lacks and
    needs; PluginError for a name that nobody offers.
    """
    if name not in MITIGATIONS:
        plugins.load("mitigation", name)
    known = DEFAULTS.get(name, {})
    if unknown := sorted(settings.keys() - known.keys()):
        listed = ", ".join(known) or "it has none"
        raise AuditError(
            f"The mitigation {name!r} has no setting {unknown[0]!r}.", f"Known: {listed}."
        )
    needed = _NEEDED.get(name)
    if needed and settings.get(needed) is None:
        raise AuditError(
            f"The mitigation {name!r} needs {needed!r}.", f"Write step({name!r}, {needed}=...)."
        )
    return Step(name, {**known, **settings})


def attributed(step: Step) -> Step:
    """`step`, with its package and version among its settings when it is a third party's.

    So the manifest names them, and another version is another run. Raises PluginError when it
    cannot be imported.
    """
    if step.name in MITIGATIONS:
        return step
    plugin = plugins.load("mitigation", step.name)
    return dataclasses.replace(
        step, settings={**step.settings, "package": f"{plugin.package} {plugin.version}"}
    )
