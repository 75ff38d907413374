"""The parts of `audit mitigate`: the evidence a defence needs, and the files it writes."""
