"""Which model a figure was computed with, by digests of all that turns text into predictions."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.errors import ModelError
from auditor.model.chat_template import OWN_SYSTEM, OWN_TEMPLATE
from auditor.model.language_model import LanguageModel, Origin

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """One model as it was used: a reference, a teacher, a clean teacher or a paraphraser.

    A name alone is no identity: a folder may hold other weights tomorrow. Two runs are the same run
    only where every model of theirs has the same identity.
    """

    name: str
    """The model as the user wrote it: a built-in, a hub name or a path."""

    origin: Origin
    """Where it came from: "built-in", "hub" or "local". The name of a local one says nothing."""

    sha256: str
    """SHA-256 over the files of weights, configuration, tokenizer and chat template."""

    tokenizer_sha256: str
    """SHA-256 of the tokenizer's definition: a token mask holds for one tokenizer only."""

    template_sha256: str
    """SHA-256 of the chat template."""

    dtype: str
    """Number format of the weights, e.g. "float32"."""

    device: str
    """Kind of device without its number, e.g. "cuda": rounding differs between kinds."""

    chat_template: str = OWN_TEMPLATE
    """Which it is: "own", or the name or file that was given in its place."""

    system: str = OWN_SYSTEM
    """What stands in the system turn of a row that has none: "own", as the template has it, "none",
    or a text.
    """

    base: str = ""
    """Name and digest of the model that an adapter was merged into; "" for any other model."""

    def as_dict(self, keys: Sequence[str] = ()) -> dict[str, str]:
        """The fields by name, in their order, as reports and run identities give them.

        keys: only these fields, for the reports that have fewer of them.
        """
        fields = dataclasses.asdict(self)
        if not self.base:
            del fields["base"]
        if self.system == OWN_SYSTEM:
            del fields["system"]
        return {name: value for name, value in fields.items() if not keys or name in keys}


def identity_of(lm: LanguageModel) -> ModelIdentity:
    """The identity of a loaded model."""
    return ModelIdentity(
        name=lm.name,
        origin=lm.origin,
        sha256=lm.sha256,
        tokenizer_sha256=tokenizer_sha256(lm.tokenizer),
        template_sha256=template_sha256(lm.tokenizer),
        dtype=lm.dtype,
        device=lm.device.split(":")[0],
        chat_template=lm.chat_template,
        system=lm.system,
        base=lm.base,
    )


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of a fast tokenizer's whole definition, as its JSON."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def template_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of the chat template; of the empty text where there is none."""
    return hashlib.sha256(str(tokenizer.chat_template or "").encode()).hexdigest()


def check_same_model(lm: LanguageModel, expected: object) -> None:
    """Raise ModelError unless a worker's model has the fields of `ModelIdentity` that the run has;
    expected: None where it has no model.
    """
    if not isinstance(expected, Mapping):
        return
    here = identity_of(lm).as_dict(tuple(expected))
    if names := [name for name in here if here[name] != expected[name]]:
        raise ModelError(
            f"On {socket.gethostname()}, {lm.name} has another {', '.join(names)} than here.",
            "Give all nodes the same files, and name the same --device and --dtype.",
        )
