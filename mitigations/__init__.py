"""Mitigations of a data set, one file each, and the registry in which they and those of other
packages are found.

A mitigation changes nothing but the texts of prompts or completions, and the loss mask. What one is
stands in `mitigations.interface`.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import ClassVar

from auditor.data.text_row import TextRow
from auditor.errors import AuditError
from mitigations.canonicalize import Canonicalize
from mitigations.drop import Drop
from mitigations.interface import Changed, Dropped, Facts, Kept, Mitigation, Outcome
from mitigations.mask import Mask
from mitigations.mix import Mix
from mitigations.replace import Replace
from mitigations.reword import Paraphrase
from mitigations.shuffle import Shuffle

LOG = logging.getLogger(__name__)

MITIGATIONS: dict[str, type[Mitigation]] = {
    mitigation.name: mitigation
    for mitigation in (Paraphrase, Mix, Mask, Replace, Canonicalize, Drop, Shuffle)
}


def load(name: str) -> type[Mitigation]:
    """The mitigation `name`: ours, else the one that an installed package offers under this name.

    The function of another package (docs/plugins.md) has its package and version as its only
    setting, so that the manifest names them and another version is another run.
    Raises PluginError when there is none, more than one, or it cannot be imported.
    """
    if name in MITIGATIONS:
        return MITIGATIONS[name]
    # Looking for plug-ins reads the metadata of every installed package: only when there is need.
    from auditor import plugins

    plugin = plugins.load("mitigation", name)
    LOG.info("mitigation %s is that of %s %s", name, plugin.package, plugin.version)
    name_of_plugin = name  # in the class below `name` is the class variable

    @dataclass(frozen=True)
    class ThirdParty(Mitigation):
        name: ClassVar[str] = name_of_plugin
        help: ClassVar[str] = f"A mitigation of {plugin.package}."
        package: str = field(init=False, default=f"{plugin.package} {plugin.version}")

        def apply(self, row: TextRow, facts: Facts) -> Outcome:
            outcome = plugin(row, Facts(), seed=facts.seed)
            if not isinstance(outcome, Kept | Changed | Dropped):
                raise plugin.failed("it must give Kept(...), Changed(...) or Dropped(...)")
            return outcome

    return ThirdParty


def step(name: str, **settings: object) -> Mitigation:
    """A mitigation with its settings, the others at their defaults: `step("mix", share=0.5)`.

    docs/mitigations.md lists the settings; a mitigation of another package has none.
    Raises: AuditError for a setting that the mitigation does not have, or lacks and needs, and for
    a value that is not allowed; PluginError for a name that nobody offers.
    """
    mitigation = load(name)
    fields = {about.name: about for about in dataclasses.fields(mitigation) if about.init}
    if unknown := sorted(settings.keys() - fields.keys()):
        listed = ", ".join(fields) or "it has none"
        raise AuditError(
            f"The mitigation {name!r} has no setting {unknown[0]!r}.", f"Known: {listed}."
        )
    for key, about in fields.items():
        required = about.default is about.default_factory is dataclasses.MISSING
        if required and settings.get(key) is None:
            raise AuditError(
                f"The mitigation {name!r} needs {key!r}.",
                f"Write step({name!r}, {key}=...).",
            )
    return mitigation(**settings)
