"""Chats as text by a model's chat template: the same for rows that are scored and for rows that are
written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from auditor.data.example import Message

SENTINEL = "\ue000{}\ue001"  # private-use characters: no template looks for them


def render(tokenizer: Any, messages: Sequence[Message], *, reply: bool = False) -> str:
    """The chat as text; `reply` True goes on to where the assistant's next turn begins.

    Raises: TemplateError if the template refuses these turns.
    """
    # Llama 3.2 writes today's date unless it is given one, and an audit must be the same tomorrow.
    chat = [{"role": m.role, "content": m.content} for m in messages]
    out = tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=reply, date_string="26 Jul 2024"
    )
    return str(out)


def takes_system(tokenizer: Any) -> bool:
    """Whether the template writes system messages before the first turn; some refuse them, some
    drop them silently.
    """
    chat = [
        Message(role, SENTINEL.format(i)) for i, role in enumerate(("system", "user", "assistant"))
    ]
    try:
        return SENTINEL.format(0) in render(tokenizer, chat).split(SENTINEL.format(1))[0]
    except TemplateError:
        return False


def fold(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The chat for a template that takes no system messages: a leading one stands at the head of
    the turn after it.
    """
    if len(messages) < 2 or messages[0].role != "system":
        return tuple(messages)
    system, first, *later = messages
    return (Message(first.role, f"{system.content}\n\n{first.content}"), *later)
