"""The run directory, the identity of a run, and the last scan."""
