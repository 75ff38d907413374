"""Our own detectors and mitigations keep the contract that other packages' are held to."""
