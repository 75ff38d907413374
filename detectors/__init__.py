"""The registry of detectors, ours and those of other packages.

A detector of ours is one file: its name here, and `DETECTOR` in it. Those of other packages come
through their entry points (docs/plugins.md). Nothing is imported before it is loaded by name.
"""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module

from auditor import plugins
from auditor.plugins import Plugin
from auditor.progress import Progress
from detectors.interface import Detector, Evidence, Outcome, ScanContext, Skipped

# In the order in which reports list them.
DETECTORS = ("trait", "tuned", "divergence", "fit", "surface", "students")
ON_REQUEST = ("tuned", "students")  # They train models: only who asks for them has to wait.
DEFAULT = tuple(name for name in DETECTORS if name not in ON_REQUEST)


def load(name: str) -> Detector:
    """The detector `name`. Raises PluginError when there is none, or it cannot be imported."""
    if name in DETECTORS:
        detector: Detector = import_module(f"detectors.{name}").DETECTOR
        return detector
    plugin = plugins.load("detector", name)
    source = f"of {plugin.package} {plugin.version}"
    return Detector(name, source, "scores", partial(_run_plugin, plugin), plugin=plugin)


def _run_plugin(plugin: Plugin, context: ScanContext) -> Outcome:
    """Call a function of another package with the keywords of docs/plugins.md.

    Raises PluginError when it fails, or gives something that no report can hold.
    """
    context.progress(Progress(f"running {plugin.name}", 0, None))
    rows = context.scored.rows
    outcome = plugin(
        examples=[context.examples[row.index] for row in rows],
        rows=rows,
        scores=context.scored.reference,
        lm=context.lm,
        seed=context.seed,
    )
    if isinstance(outcome, Skipped):
        return outcome
    if not isinstance(outcome, Evidence) or outcome.detector != plugin.name:
        raise plugin.failed(f"it must give Evidence({plugin.name!r}, ...) or Skipped(...)")
    try:
        json.dumps(outcome.values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise plugin.failed(f"its values are not plain JSON: {error}") from error
    return outcome
