"""Our own detectors and mitigations keep the contract that other packages' are held to."""

from auditor.testing import (  # noqa: F401 - pytest finds them here
    test_detector,
    test_mitigation,
)
