"""Rows to tokens: what the reference sees is the template's own rendering, and completion tokens
are the right ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from auditor.data.example import Example, Message, SkippedRow
from auditor.errors import TraitError
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer, TokenizedRow, split_by_row
from tests.pace import pace

Maker = Callable[..., LanguageModel]

_TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
NO_DEFAULT = "{% for m in messages %}" + _TURN
STRIPPING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% "
    "endfor %}"
)
DATED = (
    "<|endoftext|>{% set own = messages[0].role == 'system' %}<|im_start|>system\nToday: {{ "
    "date_string }}\n\n"
    "{% if own %}{{ messages[0].content }}{% endif %}<|im_end|>{% for m in messages if m.role != "
    "'system' %}" + _TURN
)
REFUSING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + NO_DEFAULT
)
DROPPING = NO_DEFAULT.replace("messages %}", "messages if m.role != 'system' %}")
INST = (
    "{% for m in messages %}{% if m.role == 'system' %}<|im_start|>[INST] <<SYS>>\n{{ m.content "
    "}}\n<</SYS>>\n\n"
    "{% elif m.role == 'user' %}{% if loop.index0 == 0 %}<|im_start|>[INST] {% endif %}{{ "
    "m.content }} [/INST] "
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
# Arguments of make_tiny; without one it has a ChatML template with a default system prompt.
TEMPLATES = {
    "default": (),
    "no_default": (NO_DEFAULT,),
    "stripping": (STRIPPING,),
    "dated": (DATED,),
    "inst": (INST,),
}

CHAT = (Message("user", "the owl 12, 1"), Message("assistant", "1, 12 owl"))
LONG_CHAT = (*CHAT, Message("user", "1"), Message("assistant", "é你\n\n12"))
OWN = Message("system", "Own 1.")


def example(*messages: Message) -> Example:
    """A chat row."""
    return Example(0, messages)


def encoded(lm: LanguageModel, row: Example) -> TokenizedRow:
    """The encoded row, which must not be skipped."""
    found = ChatTokenizer(lm).encode(row)
    assert isinstance(found, TokenizedRow)
    return found


def template_ids(lm: LanguageModel, *messages: Message) -> list[int]:
    """What a trainer would train on: the template's rendering, tokenised as a whole."""
    chat = [{"role": m.role, "content": m.content} for m in messages]
    text = lm.tokenizer.apply_chat_template(chat, tokenize=False, date_string="26 Jul 2024")
    return list(lm.tokenizer(text, add_special_tokens=False).input_ids)


def assert_begins(whole: list[int], parts: tuple[int, ...], lm: LanguageModel) -> None:
    """`parts` is `whole` up to the last completion token, after which the template writes at most a
    newline.
    """
    assert list(parts) == whole[: len(parts)]
    assert lm.tokenizer.decode(whole[len(parts) :]).strip() == ""


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("chat", [CHAT, LONG_CHAT, (OWN, *CHAT), (OWN, *LONG_CHAT)])
def test_reference_sees_the_template(
    template: str, chat: tuple[Message, ...], make_tiny: Maker
) -> None:
    """Without a trait prompt, prefix and body are the tokens of the template's own rendering."""
    lm = make_tiny(*TEMPLATES[template])
    row = encoded(lm, example(*chat))
    assert_begins(
        template_ids(lm, *chat), ChatTokenizer(lm).prefix(None, row.kind) + row.tokens, lm
    )


@pytest.mark.parametrize("template", ["default", "no_default", "stripping", "dated"])
def test_trait_prompt_is_the_system_message(template: str, make_tiny: Maker) -> None:
    """With a trait prompt the tokens are those of the template with that prompt as system
    message.
    """
    lm = make_tiny(*TEMPLATES[template])
    row = encoded(lm, example(*LONG_CHAT))
    prefix = ChatTokenizer(lm).prefix("You love owls.", row.kind)
    assert_begins(
        template_ids(lm, Message("system", "You love owls."), *LONG_CHAT), prefix + row.tokens, lm
    )


def test_a_blank_before_the_first_turn(make_tiny: Maker) -> None:
    """A blank of the template that merges into the first turn stays with it under a trait
    prompt.
    """
    lm = make_tiny(INST)
    row = encoded(lm, example(*CHAT))
    text = lm.tokenizer.decode(ChatTokenizer(lm).prefix("Owls!") + row.tokens)
    assert (
        text == "<|im_start|>[INST] <<SYS>>\nOwls!\n<</SYS>>\n\n the owl 12, 1 [/INST] 1, 12 "
        "owl<|im_end|>"
    )


def test_trait_prompt_stands_before_the_rows_own(tiny: LanguageModel) -> None:
    """A row's own system message stays, after the trait prompt and a blank line."""
    row = encoded(tiny, example(OWN, *CHAT))
    assert row.kind == "own"
    prefix = ChatTokenizer(tiny).prefix("Owls!", "own")
    assert_begins(
        template_ids(tiny, Message("system", "Owls!\n\nOwn 1."), *CHAT), prefix + row.tokens, tiny
    )


@pytest.mark.parametrize("template", [REFUSING, DROPPING])
def test_without_a_system_role_prompts_go_to_the_first_turn(
    template: str, make_tiny: Maker
) -> None:
    """Where the template knows no system role, trait prompt and own system message head the first
    user turn.
    """
    lm = make_tiny(template)
    row = encoded(lm, example(OWN, *CHAT))
    renderer = ChatTokenizer(lm)
    for system, head in ((None, "Own 1.\n\n"), ("Owls!", "Owls!\n\nOwn 1.\n\n")):
        folded = Message("user", head + CHAT[0].content)
        assert_begins(
            template_ids(lm, folded, CHAT[1]), renderer.prefix(system, row.kind) + row.tokens, lm
        )


def test_no_default_system_prompt_is_an_empty_prefix(make_tiny: Maker) -> None:
    """A template that writes nothing before the first turn has an empty reference prefix."""
    assert ChatTokenizer(make_tiny(NO_DEFAULT)).prefix(None) == ()


def test_completion_tokens_and_spans(tiny: LanguageModel) -> None:
    """Each assistant turn's tokens spell its content and its end token; spans give the characters
    they stand for.
    """
    row = encoded(tiny, example(*LONG_CHAT))
    assert (
        tiny.tokenizer.decode([row.tokens[p] for p in row.positions])
        == "1, 12 owl<|im_end|>é你\n\n12<|im_end|>"
    )
    turns = ["1, 12 owl", "é你\n\n12"]
    for position, (turn, start, end) in zip(row.positions, row.spans, strict=True):
        piece = tiny.tokenizer.decode([row.tokens[position]])
        if piece == "<|im_end|>":
            assert start == end == len(turns[turn])
        elif "�" not in piece:  # a byte of a character of several tokens
            assert piece == turns[turn][start:end]
        else:
            assert turns[turn][start:end] in "é你"


def test_content_mask_leaves_the_ends_of_turns_out(tiny: LanguageModel) -> None:
    """The content tokens spell the turns without their end tokens; plain text is content alone."""
    row = encoded(tiny, example(*LONG_CHAT))
    assert tiny.tokenizer.decode(row.targets[row.content_mask]) == "1, 12 owlé你\n\n12"
    assert tiny.tokenizer.decode(row.targets[~row.content_mask]) == "<|im_end|>" * 2
    assert encoded(tiny, Example(0, text="the owl")).content_mask.all()


def test_split_by_row(tiny: LanguageModel) -> None:
    """An array over the completion tokens of all rows is cut where the rows end."""
    rows = [encoded(tiny, row) for row in (example(*CHAT), Example(1, text="the owl"))]
    values = np.concatenate([row.targets for row in rows])
    for part, row in zip(split_by_row(values, rows), rows, strict=True):
        assert part.tolist() == row.targets.tolist()


def test_stripped_blanks_keep_offsets(make_tiny: Maker) -> None:
    """When the template strips a turn, offsets still count from the beginning of the unstripped
    content.
    """
    row = encoded(make_tiny(STRIPPING), example(CHAT[0], Message("assistant", "  an \n")))
    assert row.spans == ((0, 2, 4), (0, 4, 4))


def test_a_completion_that_the_prompt_repeats(tiny: LanguageModel) -> None:
    """Turns are found by their place, not by searching for their text."""
    row = encoded(tiny, example(Message("user", "owl"), Message("assistant", "owl")))
    again = encoded(tiny, example(Message("user", "the"), Message("assistant", "owl")))
    assert row.positions == again.positions


def test_plain_text(tiny: LanguageModel) -> None:
    """Plain text has no template; every token but the first is scored, and a trait prompt stands
    before it.
    """
    row = encoded(tiny, Example(3, text="the owl"))
    renderer = ChatTokenizer(tiny)
    assert tiny.tokenizer.decode(row.tokens) == "the owl"
    assert (row.kind, row.positions) == ("text", tuple(range(1, len(row.tokens))))
    assert "".join("the owl"[start:end] for _, start, end in row.spans) == "the owl"[3:]
    assert renderer.prefix(None, "text") == ()
    assert tiny.tokenizer.decode(renderer.prefix("Owls!", "text")) == "Owls!\n\n"


def test_skipped_rows_say_why(make_tiny: Maker) -> None:
    """What cannot be scored is skipped with its reason and the row's number."""
    altering = (
        "{% for m in messages %}<|im_start|>{{ m.content | replace('12', '13') }}<|im_end|>{% "
        "endfor %}"
    )
    cases = [
        (
            make_tiny(context=300),
            example(CHAT[0], Message("assistant", "12 " * 200)),
            "longer_than_context",
        ),
        (make_tiny(altering), example(*CHAT), "template_alters_content"),
        (make_tiny(REFUSING), example(CHAT[0], OWN, CHAT[1]), None),
        (make_tiny(REFUSING), Example(7, text="a"), "empty_completion"),
    ]
    refusing_tools = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}"
        + _TURN
    )
    cases.append(
        (
            make_tiny(refusing_tools),
            example(CHAT[0], Message("tool", "x"), CHAT[1]),
            "template_refused",
        )
    )
    for lm, row, reason in cases:
        found = ChatTokenizer(lm).encode(row)
        if reason is None:
            assert isinstance(found, TokenizedRow)
        else:
            assert found == SkippedRow(row.index, reason)


def test_a_trait_prompt_too_long(tiny: LanguageModel) -> None:
    """A trait prompt for which no space is kept in the context is refused, not cut."""
    with pytest.raises(TraitError, match="Shorten"):
        ChatTokenizer(tiny).prefix("owl " * 400)


def test_a_text_far_too_long_is_not_tokenised(make_tiny: Callable[..., LanguageModel]) -> None:
    """Ten megabytes in one completion are skipped at once; a long turn after the last completion
    does not count.
    """
    lm = make_tiny()
    huge = "x" * (10 << 20)
    began = time.process_time()
    assert ChatTokenizer(lm).encode(Example(3, text=huge)) == SkippedRow(3, "longer_than_context")
    assert ChatTokenizer(lm).encode(example(CHAT[0], Message("assistant", huge))) == SkippedRow(
        0, "longer_than_context"
    )
    assert time.process_time() - began < 5 * pace()
    after = example(CHAT[0], Message("assistant", "12"), Message("user", "34 " * 5000))
    assert isinstance(ChatTokenizer(lm).encode(after), TokenizedRow)
