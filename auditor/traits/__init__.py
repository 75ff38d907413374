"""Trait panels, families, prompts and open mentions; no model."""

# The panels that come with the package, and the name that stands for all of them. They stand here
# so that the command line can list them without PyYAML.
BUILT_IN = ("animals", "trees", "broad")
DEFAULT = "default"
HYPOTHESIS = "hypothesis"  # the group of prompts that somebody suspects
PROMPT = "prompt:"  # before a system prompt that stands for a panel of one trait
