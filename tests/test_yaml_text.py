"""YAML of people: what it may hold, and that a repeated key is an error at any depth."""

from __future__ import annotations

import pytest
import yaml

from auditor.yaml_text import read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1",
        "a: {a: 1}\nb: {a: 2}",
        "- a: 1\n- a: 2",
        "x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}",
        "x: &x [1, *x]",
        "? [1, 2]\n: 3",
    ],
)
def test_reads_as_the_safe_loader(text: str) -> None:
    """Aliases, merged mappings and a list within itself too."""
    if "? " in text:
        with pytest.raises(yaml.YAMLError):
            read_yaml(text)
    else:
        assert repr(read_yaml(text)) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 1",
        "policy: {max_probability: 0.1}\nrows: 3\npolicy: {}",
        "x:\n- y: {b: 1, 'b': 2}",
        '{"a": 1, a: 2}',
        "on: 2026-02-30",
        "a: " + "[" * 20_000,
        "a: 1\n---\na: 2",
        "!!python/object/apply:os.system [ls]",
        "seed: 1" + ":59" * 3000,
        "seed: 0x" + "f" * 5000,
        "seed: 1" + ":59" * 3000 + ".5",
        "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}",
        "a: &a {<<: *a}",
    ],
)
def test_refuses(text: str) -> None:
    """A key that stands twice, an impossible date, deep nesting, a second document, a tag, numbers
    that take long to read, merges that multiply.
    """
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)
