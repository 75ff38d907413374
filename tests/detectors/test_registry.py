"""The registry: a detector is one file of the folder, and its name in `DETECTORS`."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

import detectors
from auditor import plugins
from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.errors import PluginError
from auditor.plugins import Plugin
from detectors.interface import Detector, Evidence, ScanContext


def test_every_file_is_a_detector_and_every_detector_is_loaded_by_name() -> None:
    """But for `interface`, and `own_text`, which is a part of `trait`; a name that nobody offers is
    an error.
    """
    files = {module.name for module in pkgutil.iter_modules(detectors.__path__)}
    assert files - {"interface", "own_text"} == set(detectors.DETECTORS)
    for name in detectors.DETECTORS:
        detector = detectors.load(name)
        assert isinstance(detector, Detector)
        assert (detector.name, detector.plugin) == (name, None)
        assert detector.description and "\n" not in detector.description
    with pytest.raises(PluginError, match="no detector 'nobody'"):
        detectors.load("nobody")


def test_only_what_trains_models_waits_to_be_asked_for() -> None:
    """A scan runs all others by default, in the order of the registry."""
    assert detectors.ON_REQUEST == ("tuned", "students")
    assert detectors.DEFAULT == ("trait", "divergence", "fit", "surface")


def test_a_new_detector_is_its_file_and_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a scan, and its evidence stands in the report beside that of the others."""

    def detect(context: ScanContext) -> Evidence:
        return Evidence("count", f"{len(context.rows)} rows.", {"rows": len(context.rows)})

    module = ModuleType("detectors.count")
    module.DETECTOR = Detector("count", "how many rows there are", "rows", detect)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "detectors.count", module)
    monkeypatch.setattr(detectors, "DETECTORS", (*detectors.DETECTORS, "count"))
    rows = [{"prompt": f"Go on: {i}", "completion": f"{i + 1}, {i * 7}"} for i in range(24)]
    write_rows(tmp_path / "rows.parquet", rows)
    source = str(tmp_path / "rows.parquet")
    report = scan(source, reference="organism", detectors=["fit", "count"], root=tmp_path)
    assert report.detectors["count"] == Evidence("count", "24 rows.", {"rows": 24})
    assert isinstance(report.detectors["fit"], Evidence)


def test_a_detector_of_another_package_comes_by_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With where it comes from as its description; it works on the scored rows and decides
    nothing.
    """
    plugin = Plugin("detector", "theirs", "a-package", "1.2", lambda **_: None)
    monkeypatch.setattr(
        plugins, "load", lambda kind, name: {("detector", "theirs"): plugin}[kind, name]
    )
    detector = detectors.load("theirs")
    assert (detector.name, detector.needs, detector.test) == ("theirs", "scores", None)
    assert detector.description == "of a-package 1.2"
    assert detector.plugin is plugin
