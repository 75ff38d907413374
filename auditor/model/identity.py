"""Digests of what turns text into tokens: a token mask holds for one tokenizer and one chat
template only.
"""

from __future__ import annotations

import hashlib
from typing import Any


def tokenizer_sha256(tokenizer: Any) -> str:
    """SHA-256 of a fast tokenizer's whole definition, as its JSON."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def template_sha256(tokenizer: Any) -> str:
    """SHA-256 of the chat template; of the empty text where there is none."""
    return hashlib.sha256(str(tokenizer.chat_template or "").encode()).hexdigest()
