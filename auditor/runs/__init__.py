"""The run directory, the identity of a run, and the last scan."""

# The folder of all runs. It stands here so that a report can be looked up without pyarrow.
HOME = ".audit"
