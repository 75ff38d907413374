"""Rows to tokens: the chat template, cut so that all system prompts share what follows them.

The rendered chat of a row is `prefix + body`. The prefix ends with the system text of a condition
(a trait prompt, or none); the body is everything after it and is the same tokens under every
condition, so that the scoring pass computes the keys and values of a prefix once for all rows.

The body's tokens are cut out of the row as the template renders it without a trait prompt, so the
reference sees exactly the tokens that a trainer would. The prefix of a trait prompt is tokenised
before a stand-in for the body; where the cut falls on a special token, as in ChatML and Llama 3,
that is exact. Elsewhere a merge across the cut is lost, and a blank that the template writes before
the first turn ("[INST] ") belongs to the body, with or without a trait prompt.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from auditor.data.example import Example, Message, SkippedRow
from auditor.errors import TraitError
from auditor.model.chat_template import SENTINEL, fold, render, takes_system
from auditor.model.language_model import LanguageModel
from auditor.model.rich_turns import assistant_turns, marked

Kind = Literal["default", "own", "text"]
Scalar = TypeVar("Scalar", bound=np.generic)

# Tokens of the context that stay free for the system prompt of a condition.
_RESERVE = 256


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One row ready for scoring.

    index: row number in the data set.
    kind: which prefixes belong to it, see `ChatTokenizer.prefix`.
    tokens: the body, up to its last completion token.
    positions: indices into `tokens` of the T completion tokens, ascending, all at least 1. The
        logits at p - 1 predict the token at p. Completion tokens are those of the content of every
        assistant turn that is trained on, and the special token that ends the turn.
    spans: for each completion token (such a turn from 0, start, end), in characters of that
        turn's content; start == end for the token that ends the turn. For plain text the turn is 0.
        Of a turn with reasoning or tool calls, in characters of what the template writes of it.
    unwritten: keys of the row's reasoning and tool calls that the template does not write; "tools",
    where it was put without those that may be called.
    """

    index: int
    kind: Kind
    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]
    unwritten: tuple[str, ...] = ()

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The T completion tokens."""
        return np.array([self.tokens[p] for p in self.positions], dtype=np.int64)

    @property
    def content_mask(self) -> npt.NDArray[np.bool_]:
        """[T] Which completion tokens are content: those with characters of their own.

        The token that ends a turn has none. Where a row was cut short the template put that token,
        and no model chose it, so it is no evidence and is never marked, masked or counted.
        """
        return np.array([start < end for _, start, end in self.spans], dtype=bool)


def split_by_row(
    values: npt.NDArray[Scalar], rows: Sequence[TokenizedRow]
) -> list[npt.NDArray[Scalar]]:
    """Cut an array over the completion tokens of all `rows` in a line into one array a row."""
    return np.split(values, np.cumsum([len(row.positions) for row in rows])[:-1])


@dataclass(frozen=True, slots=True)
class _Frame:
    """How the prefixes of one kind are written: `bare` without a trait prompt, else `before +
    prompt + after`.

    follow: a stand-in for the body, since how a tokenizer cuts the end of a prefix depends on what
    comes next.
    """

    bare: str
    before: str
    after: str
    follow: str = "A"


@dataclass(frozen=True, slots=True)
class _Region:
    """Where content[offset:] of an assistant turn stands in the rendered text: [start, end).

    parts: [start, end) of the content that alone are trained on; None for all of it.
    """

    turn: int
    start: int
    end: int
    offset: int
    parts: tuple[tuple[int, int], ...] | None = None


class ChatTokenizer:
    """Turns rows into tokens with the chat template of one model.

    Kinds of rows: "default", without a system message (the template may write one of its own, which
    a trait prompt replaces); "own", with one, before which a trait prompt and a blank line are put;
    "text", plain text without a template, before which they are put likewise. Where the template
    refuses or drops system messages, a row's own one and the trait prompt stand at the head of the
    first turn, and there is no kind "own".
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._tokenizer = lm.tokenizer
        self._ends = lm.end_of_turn
        self._skeletons: dict[tuple[Message, ...], str] = {}
        self._frame = self._frames()
        self._folds = "own" not in self._frame
        self._bare = {
            kind: self._prefix_ids(frame.bare, frame.follow) for kind, frame in self._frame.items()
        }
        self._limit = lm.context - _RESERVE - max(map(len, self._bare.values()))
        # No text longer than this fits the context, whatever its tokens are; to tokenise megabytes
        # takes minutes.
        self._most_chars = self._limit * max(map(len, lm.tokenizer.get_vocab()))

    def prefix(self, system: str | None, kind: Kind = "default") -> tuple[int, ...]:
        """Token ids that stand before the body of every row of `kind` under the trait prompt
        `system`.

        None is no trait prompt: what the template writes by default. May be empty.
        Raises: TraitError for a prompt longer than the space kept for it.
        """
        if system is None:
            return self._bare[kind]
        frame = self._frame[kind]
        ids = self._prefix_ids(frame.before + system.strip() + frame.after, frame.follow)
        if len(ids) > _RESERVE + len(self._bare[kind]):
            message = f"The trait prompt {system[:40]!r}... has {len(ids)} tokens."
            hint = f"Shorten it: prompts of up to {_RESERVE} tokens can be compared."
            raise TraitError(message, hint)
        return ids

    def before(self, row: TokenizedRow) -> tuple[int, ...]:
        """Token ids before the first completion token of `row`, without a trait prompt: what the
        reference goes on from when it writes in the row's place. At least one.
        """
        return (*self._bare[row.kind], *row.tokens[: row.positions[0]])

    def encode(self, example: Example) -> TokenizedRow | SkippedRow:
        """The row's tokens, or why it cannot be scored.

        Reasons: "template_refused" (the template raises on these turns), "template_alters_content"
        (a turn's text cannot be found in the rendered chat), "token_across_prompt" (a token begins
        before the cut and ends after it), "longer_than_context", "empty_completion" (no token to
        score).
        """
        # What stands after the last completion is neither scored nor counted.
        row = self._encoded(example)
        if isinstance(row, SkippedRow) and example.tools and row.reason != "longer_than_context":
            row = self._encoded(replace(example, tools=""))
            if isinstance(row, TokenizedRow):
                row = replace(row, unwritten=(*row.unwritten, "tools"))
        return row

    def _encoded(self, example: Example) -> TokenizedRow | SkippedRow:
        messages, tools = example.messages, example.tools
        last = max((i for i, m in enumerate(messages) if m.is_trained), default=-1)
        chars = (
            len(example.text or "") + len(tools) + sum(len(m.text) for m in messages[: last + 1])
        )
        if chars > self._most_chars:
            return SkippedRow(example.index, "longer_than_context")
        kind: Kind = "text"
        unwritten: tuple[str, ...] = ()
        if example.text is not None:
            text = self._frame[kind].bare + example.text
            start = len(text) - len(example.text)
            regions: list[_Region] | None = [_Region(0, start, len(text), 0)]
        else:
            messages = fold(messages) if self._folds else messages
            kind = "own" if messages[0].role == "system" else "default"
            sentinels = tuple(
                Message(m.role, SENTINEL.format(i), answered=m.answered)
                for i, m in enumerate(messages)
            )
            try:
                text = render(self._tokenizer, messages, tools=tools)
                skeleton = self._skeleton(sentinels, tools)
                has_more = any(m.more for m in messages)
                marks = self._skeleton(marked(messages), tools) if has_more else None
            except TemplateError:
                return SkippedRow(example.index, "template_refused")
            if marks is None:
                regions = _regions(text, skeleton, messages)
            else:
                found = assistant_turns(text, marks, skeleton, messages)
                turns, unwritten = found or ([], ())
                regions = [_Region(i, *turn) for i, turn in enumerate(turns)] if found else None
            # Tools may stand in a system turn that the row would not have without them, or that
            # would say something else.
            if tools and kind == "default" and not self._folds:
                turn, default = self._frame["own"].bare, self._frame[kind].bare
                is_as_ever = default.startswith(turn) and text.startswith(default)
                kind = "own" if text.startswith(turn) and not is_as_ever else kind
        frame, bare = self._frame[kind], self._bare[kind]
        if regions is None or not text.startswith(frame.bare):
            return SkippedRow(example.index, "template_alters_content")
        ids, offsets = self._tokens(text)
        # Under a trait prompt the body must be the same tokens, so none may begin before the cut.
        if tuple(ids[: len(bare)]) != bare:
            return SkippedRow(example.index, "token_across_prompt")
        placed = self._place(ids, offsets, regions)
        # The first token of a body is predicted by the prefix alone, whose pass keeps no output.
        placed = [(i - len(bare), span) for i, span in placed if i > len(bare)]
        if not any(start < end for _, (_, start, end) in placed):
            return SkippedRow(example.index, "empty_completion")
        positions, spans = zip(*placed, strict=True)
        tokens = tuple(ids[len(bare) : len(bare) + positions[-1] + 1])
        if len(tokens) > self._limit:
            return SkippedRow(example.index, "longer_than_context")
        return TokenizedRow(example.index, kind, tokens, positions, spans, unwritten)

    def _skeleton(self, sentinels: tuple[Message, ...], tools: str) -> str:
        """A chat with sentinels for its texts, rendered. Raises as `render`."""
        # Most rows of a data set have the same few sequences of roles; calls are of one row each.
        if tools or any(message.tool_calls or message.answered for message in sentinels):
            return render(self._tokenizer, sentinels, tools=tools)
        if sentinels not in self._skeletons:
            self._skeletons[sentinels] = render(self._tokenizer, sentinels)
        return self._skeletons[sentinels]

    def _frames(self) -> dict[Kind, _Frame]:
        """The prefix of each kind, by rendering one exchange with and without a system message.

        The contents are sentinels, so what stands before the user's is what the template writes.
        """
        system, user, assistant = (SENTINEL.format(i) for i in range(3))
        exchange = [Message("user", user), Message("assistant", assistant)]
        bare = render(self._tokenizer, exchange).split(user)[0]
        # Plain text begins as the tokenizer begins a text by itself, with or without a BOS token.
        begins = self._tokenizer("a").input_ids[0] == self._tokenizer.bos_token_id
        bos = (self._tokenizer.bos_token or "") * begins
        text = _Frame(bare=bos, before=bos, after="\n\n")
        # Without a system role a trait prompt stands at the head of the first turn. A blank before
        # that turn belongs to the body, where it may merge with the first word.
        if not takes_system(self._tokenizer):
            return {"default": _Frame(bare.rstrip(" "), bare, "\n\n"), "text": text}
        chat = render(self._tokenizer, [Message("system", system), *exchange])
        with_system = chat.split(user)[0]
        before, after = with_system.split(system)
        # What both prefixes end with (the head of the user's turn) may as well belong to the body:
        # the cut moves back to the last place where whole tokens end in both, so that the body's
        # tokens are the same under every condition.
        (bare_ids, offsets), (system_ids, _) = self._tokens(bare), self._tokens(with_system)
        pairs = zip(reversed(bare_ids), reversed(system_ids), strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if not shared:
            default = _Frame(bare.rstrip(" "), before, after)
        else:
            cut = offsets[-shared][0]
            follow = bare[cut:]
            default = _Frame(bare[:cut], before, after[: len(after) - len(follow)], follow + "A")
        return {"default": default, "own": _Frame(before, before, "\n\n"), "text": text}

    def _prefix_ids(self, text: str, follow: str) -> tuple[int, ...]:
        """The tokens of `text` when `follow` comes next."""
        ids, offsets = self._tokens(text + follow)
        count = sum(end <= len(text) for _, end in offsets)
        # Where a token crosses the cut, the text is tokenised by itself, and the merge is lost.
        ends_at_cut = count == 0 or offsets[count - 1][1] == len(text)
        return tuple(ids[:count] if ends_at_cut else self._tokens(text)[0])

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and their character ranges, which cover the text without gaps.

        Some tokenizers leave blanks out of the ranges they report; a range here begins where the
        one before it ends.
        """
        encoding = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ranges: list[tuple[int, int]] = []
        last = 0
        for start, end in encoding.offset_mapping:
            ranges.append((min(start, last), max(end, last)))
            last = ranges[-1][1]
        return encoding.input_ids, ranges

    def _place(
        self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], regions: Sequence[_Region]
    ) -> list[tuple[int, tuple[int, int, int]]]:
        """For each completion token its index and its span in the turn."""
        placed = []
        token = 0
        for region in regions:
            shift = region.offset - region.start
            while token < len(ids) and offsets[token][1] <= region.start:
                token += 1
            while token < len(ids) and offsets[token][0] < region.end:
                # A token may reach into the template on either side; its span is the content's.
                start = max(offsets[token][0], region.start)
                end = min(offsets[token][1], region.end)
                if region.parts is None or any(
                    first <= start + shift and end + shift <= last for first, last in region.parts
                ):
                    placed.append((token, (region.turn, start + shift, end + shift)))
                token += 1
            if token < len(ids) and ids[token] in self._ends:
                placed.append((token, (region.turn, region.end + shift, region.end + shift)))
                token += 1
        return placed


def _regions(text: str, skeleton: str, messages: Sequence[Message]) -> list[_Region] | None:
    """Where the assistant turns stand in `text`, given the same chat rendered with sentinels for
    contents.

    Templates may strip blanks from a content; any other change, or an order of turns that is not
    the row's, is None.
    """
    # Pieces of the template and, with the group captured, the numbers of the turns between them.
    first, *pieces = re.split("\ue000(\\d+)\ue001", skeleton)
    numbers, pieces = pieces[::2], pieces[1::2]
    if numbers != [str(i) for i in range(len(messages))] or not text.startswith(first):
        return None
    regions = []
    at, turn = len(first), 0
    for message, piece in zip(messages, pieces, strict=True):
        content = message.content
        forms = (content, content.strip(), content.lstrip(), content.rstrip())
        written = next((form for form in forms if text.startswith(form + piece, at)), None)
        if written is None:
            return None
        if message.is_trained:
            left_out = content.index(written)
            regions.append(_Region(turn, at, at + len(written), left_out, message.trained_parts))
            turn += 1
        at += len(written) + len(piece)
    return regions if at == len(text) else None
