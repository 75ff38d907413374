"""The registry: a detector is one file of the folder, and its name in `DETECTORS`."""

from __future__ import annotations

import pkgutil

import pytest

import detectors
from auditor.errors import PluginError
from detectors.interface import Detector


def test_every_file_is_a_detector_and_every_detector_is_loaded_by_name() -> None:
    """`interface` alone is none; a name that nobody offers is an error."""
    files = {module.name for module in pkgutil.iter_modules(detectors.__path__)}
    assert files - {"interface"} == set(detectors.DETECTORS)
    for name in detectors.DETECTORS:
        detector = detectors.load(name)
        assert isinstance(detector, Detector)
        assert (detector.name, detector.plugin) == (name, None)
        assert detector.description and "\n" not in detector.description
    with pytest.raises(PluginError, match="no detector 'nobody'"):
        detectors.load("nobody")


def test_only_what_trains_models_waits_to_be_asked_for() -> None:
    """A scan runs all others by default, in the order of the registry."""
    assert detectors.ON_REQUEST == ("tuned",)
    assert detectors.DEFAULT == ("trait", "divergence", "fit", "first_step", "surface")
