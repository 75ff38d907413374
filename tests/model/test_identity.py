"""What tells one model from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel


def test_every_part_of_a_model_tells(make_tiny: Callable[..., LanguageModel]) -> None:
    """Other weights, another chat template or another number format are another identity; the
    number of the device is not.
    """
    lm = make_tiny()
    identity = identity_of(lm)
    assert identity == identity_of(replace(lm, path=Path("elsewhere")))
    assert identity != identity_of(replace(lm, sha256="1" * 64))
    assert identity != identity_of(replace(lm, dtype="bfloat16"))
    assert identity != identity_of(make_tiny("{{ messages[0].content }}"))
    on_gpu = identity_of(replace(lm, device="cuda:0"))
    assert on_gpu != identity
    assert on_gpu == identity_of(replace(lm, device="cuda:1"))


def test_keys_of_reports(tiny: LanguageModel) -> None:
    """Reports give the fields by name, all of them or only some, always in one order."""
    identity = identity_of(tiny)
    assert list(identity.as_dict()) == [
        "name",
        "origin",
        "sha256",
        "tokenizer_sha256",
        "template_sha256",
        "dtype",
        "device",
        "chat_template",
    ]
    assert identity.as_dict(("dtype", "name")) == {"name": tiny.name, "dtype": tiny.dtype}
