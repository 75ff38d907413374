"""Chats as text by a model's chat template, the same for rows that are scored and written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from auditor.data.example import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SENTINEL = "\ue000{}\ue001"  # private-use characters: no template looks for them


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, reply: bool = False
) -> str:
    """The chat as text; `reply` True goes on to where the assistant's next turn begins.

    Raises: TemplateError if the template refuses these turns.
    """
    chat = [{"role": m.role, "content": m.content} for m in messages]
    # Llama 3.2 writes today's date unless it is given one, and an audit must be the same tomorrow.
    text = tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=reply, date_string="26 Jul 2024"
    )
    return str(text)


def takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template writes system messages before the first turn."""
    system, user, assistant = (SENTINEL.format(i) for i in range(3))
    turns = (("system", system), ("user", user), ("assistant", assistant))
    # Some templates refuse a system message with an error, and some drop it silently.
    try:
        text = render(tokenizer, [Message(role, content) for role, content in turns])
    except TemplateError:
        return False
    return system in text.split(user)[0]


def fold(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The chat with a leading system message at the head of the turn after it, for a template that
    takes none.
    """
    if len(messages) < 2 or messages[0].role != "system":
        return tuple(messages)
    system, first, *later = messages
    return (Message(first.role, f"{system.content}\n\n{first.content}"), *later)
