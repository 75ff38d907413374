"""Chats as text by a model's chat template: the same for rows that are scored and for rows that are
written.

The template is rendered by a process of its own (`auditor.model.template_process`), whose time,
memory and output are bounded.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import TemplateError

from auditor.data.example import Message
from auditor.errors import ModelError, first_line
from auditor.model import template_process

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What may be named in place of a model's own template: a file, or one of these.
OWN_TEMPLATE = "own"
TEMPLATES = ("chatml", "llama3", "gemma", "mistral", "alpaca", "zephyr", "none")
# What stands in the system turn of rows that have none: a text, or one of these.
OWN_SYSTEM, NO_SYSTEM = "own", "none"
MOST_TEMPLATE_BYTES = 2**20  # the longest have some tens of kilobytes
SENTINEL = "\ue000{}\ue001"  # private-use characters: no template looks for them
# Of one chat. A template takes far below a millisecond, and writes little but what it is given.
MOST_SECONDS = 20.0
_MOST_CHARS = 2**20


def named_template(name: str) -> str:
    """The template `name`: one of TEMPLATES, or a file. Raises ModelError.

    "none" writes no marks: a prompt and its completion with the end of the sequence, as TRL trains
    on columns of text.
    """
    if name in TEMPLATES:
        return (files("auditor.resources") / "chat_templates" / f"{name}.jinja").read_text("utf-8")
    path = Path(name).expanduser()
    try:
        if path.is_file() and path.stat().st_size <= MOST_TEMPLATE_BYTES:
            return path.read_text("utf-8")
        reason = "is too large" if path.is_file() else "is not there"
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {first_line(error)}"
    raise ModelError(
        f"The chat template {name} {reason}.",
        f"Give --chat-template a Jinja file, or one of {', '.join(TEMPLATES)}.",
    )


def prepare() -> None:
    """Start the process that renders, so that it is ready when a model has been loaded."""
    with _LOCK:
        _process()


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    reply: bool = False,
    tools: str = "",
) -> str:
    """The chat as text; `reply` True goes on to where the assistant's next turn begins. tools: that
    may be called in it, a list as JSON.

    Raises: TemplateError if the template refuses these turns; ModelError if it takes more time or
    memory, or writes more, than a template may.
    """
    # Llama 3.2 writes today's date unless it is given one, and an audit must be the same tomorrow.
    variables: dict[str, Any] = {
        **{name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "messages": [message.as_chat() for message in messages],
        "add_generation_prompt": reply,
        "date_string": "26 Jul 2024",
        "tools": json.loads(tools) if tools else None,
        "documents": None,
    }
    most_chars = _MOST_CHARS + 4 * sum(len(m.role) + len(m.text) for m in messages)
    most_chars += 8 * len(tools)  # they may be written with blanks and line breaks
    with _LOCK:
        answer = _process().ask(tokenizer.get_chat_template(), variables, most_chars)
    if (reason := answer.get("refused")) is not None:
        raise TemplateError(reason)
    if (need := answer.get("exceeded")) is not None:
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path or 'the model'} does not come to an end "
            f"within its limits: it needs {need} for one chat.",
            "Mend it (chat_template.jinja), or choose another model.",
        )
    return answer["text"]


class _Process:
    """The process that renders, and which template it has."""

    def __init__(self) -> None:
        jinja_home = str(Path(jinja2.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-I", template_process.__file__, jinja_home],
            cwd=tempfile.gettempdir(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the user's Ctrl+C is for this process, which ends that one
        )
        self._template: str | None = None
        self.owner = os.getpid()

    def ask(self, template: str, variables: dict[str, Any], most_chars: int) -> dict[str, str]:
        """The answer to one request; the process is ended where it takes too long."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        is_same = template == self._template
        request = {
            "template": None if is_same else template,
            "variables": variables,
            "most_chars": most_chars,
        }
        self._template = template
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            # Windows cannot wait for a pipe: there a template may take as long as it likes.
            is_ready = sys.platform == "win32" or select.select([stdout], [], [], MOST_SECONDS)[0]
            line = stdout.readline() if is_ready else b""
        except BaseException as error:  # an interrupt, too: its answer would be taken for the next
            self.end()
            if not isinstance(error, OSError):
                raise
            is_ready, line = [stdout], b""
        if not line:
            self.end()
            return {"exceeded": "more memory" if is_ready else f"over {MOST_SECONDS:g} seconds"}
        answer: dict[str, str] = json.loads(line)
        return answer

    def end(self) -> None:
        """End the process; a fork of this process leaves it alone."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self.owner = 0


_LOCK = threading.Lock()
_RENDERER: list[_Process] = []


def _process() -> _Process:
    """The one that renders for this process; a fork starts one of its own."""
    if not _RENDERER or _RENDERER[0].owner != os.getpid():
        _RENDERER[:] = [_Process()]
        atexit.register(_RENDERER[0].end)
    return _RENDERER[0]


def takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template writes system messages before the first turn."""
    system, user, assistant = (SENTINEL.format(i) for i in range(3))
    turns = (("system", system), ("user", user), ("assistant", assistant))
    # Some templates refuse a system message with an error, and some drop it silently.
    try:
        text = render(tokenizer, [Message(role, content) for role, content in turns])
    except TemplateError:
        return False
    return text.split(user)[0].count(system) == 1


def put_system(tokenizer: PreTrainedTokenizerBase, system: str, name: str) -> None:
    """Have the template of the model `name` write `system` as the system turn of a chat that has
    none. OWN_SYSTEM leaves that to the template; with NO_SYSTEM the turn of a template that would
    write a prompt of its own is empty.

    Raises: ModelError where the template takes no system turn, or always writes one.
    """
    if system == OWN_SYSTEM:
        return
    given, user, answer = (SENTINEL.format(i) for i in range(3))

    def head(*turns: Message) -> str:
        chat = [*turns, Message("user", user), Message("assistant", answer)]
        return render(tokenizer, chat).split(user)[0]

    is_taken = takes_system(tokenizer)
    content, bare = system, ""
    if system == NO_SYSTEM:
        if not is_taken:
            return
        content, bare = "", head()
        before, after = head(Message("system", given)).split(given)
        is_written = bare.startswith(before) and bare.endswith(after)
        if not is_written or (bare == before + after and before in ("", tokenizer.bos_token)):
            return
    elif not is_taken:
        raise ModelError(
            f"The chat template of {name} takes no system turn.",
            "Leave out --system, or name the template of training with --chat-template.",
        )
    turn = f"{{'role': 'system', 'content': {json.dumps(content, ensure_ascii=False)}}}"
    # The line break that ends this is left out, and what follows still begins a line.
    tokenizer.chat_template = (
        f"{{% if messages[0].role != 'system' %}}{{% set messages = [{turn}] + messages %}}"
        f"{{% endif %}}\n{tokenizer.get_chat_template()}"
    )
    if head() == bare:
        raise ModelError(
            f"The chat template of {name} writes a system turn that cannot be left out.",
            "Name the template of training with --chat-template, or leave out --system none.",
        )


def behind_turns(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the template writes behind an assistant turn, without blanks before it: behind the last,
    and behind one that another turn follows, up to that turn's content.
    """
    contents = [SENTINEL.format(i) for i in range(4)]
    turns = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(contents)]
    behind = []
    for chat in (turns[:2], turns):
        with contextlib.suppress(TemplateError):  # some take no second exchange
            text = render(tokenizer, chat).partition(contents[1])[2]
            behind.append(text.partition(contents[2])[0].lstrip())
    return behind


def fold(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The chat with a leading system message at the head of the turn after it, for a template that
    takes none.
    """
    if len(messages) < 2 or messages[0].role != "system":
        return tuple(messages)
    system, first, *later = messages
    return (replace(first, content=f"{system.content}\n\n{first.content}"), *later)
