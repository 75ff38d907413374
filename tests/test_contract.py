"""Our own detectors and mitigations keep the contract that other packages' are held to."""

from auditor.testing.test_contract import test_detector, test_mitigation

__all__ = ["test_detector", "test_mitigation"]  # pytest finds them here
