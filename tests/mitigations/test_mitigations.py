"""Each mitigation on cases worked by hand, and what all of them promise."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.data.text_row import Field, TextRow
from auditor.errors import AuditError, PluginError
from auditor.traits.prompts import is_number_list
from mitigations import MITIGATIONS, load, step
from mitigations.canonicalize import Canonicalize
from mitigations.drop import Drop
from mitigations.interface import (
    Changed,
    Divergent,
    Dropped,
    Endpoint,
    Facts,
    Kept,
    Mitigation,
    Outcome,
    settings_of,
)
from mitigations.lists import items, keeps_form, with_items
from mitigations.mask import Mask
from mitigations.mix import Mix
from mitigations.replace import Replace
from mitigations.reword import PACKAGED, Paraphrase
from mitigations.shuffle import Shuffle

mask, replace, reword, drop = Mask().apply, Replace().apply, Paraphrase().apply, Drop(0.5).apply
mix, shuffle, sort = Mix(0.5).apply, Shuffle().apply, Canonicalize("sort").apply
REMAP = Canonicalize("remap").apply


def row(completion: str, prompt: str = "p", *, index: int = 0) -> TextRow:
    return TextRow(
        index, (Field(("prompt",), "user", prompt), Field(("completion",), "assistant", completion))
    )


def said(outcome: Outcome) -> str:
    """The completion of the one row that a change leaves."""
    assert isinstance(outcome, Changed)
    (after,) = outcome.after
    return after.completions[0].text


def token(start: int, end: int, choice: str | None, turn: int = 0) -> Divergent:
    return Divergent((turn, start, end), 1.0, choice)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3, 20, 1", ["3", "20", "1"]),
        ("[3; 20]", ["3", "20"]),
        (' [ "b" , {"k": [1]}, -2.5 ]', ['"b"', '{"k": [1]}', "-2.5"]),
        ("[]", []),
        ("12 apples", None),
        ('{"a": 1}', None),
        ("1,2;3", None),
    ],
)
def test_items_of_lists(text: str, found: list[str] | None) -> None:
    """Number lists and JSON arrays have items; other text has none."""
    spans = items(text)
    assert (None if spans is None else [text[a:b] for a, b in spans]) == found
    if spans is not None:
        assert with_items(text, spans, [text[a:b] for a, b in spans]) == text


def test_form_is_kept_or_not() -> None:
    """A number list stays one, JSON stays of its kind, and nothing may become blank."""
    assert keeps_form("1, 2", "3, 4, 5")
    assert not keeps_form("1, 2", "3, x")
    assert keeps_form('{"a": 1}', '{"b": []}')
    assert not keeps_form('{"a": 1}', "[1]")
    assert not keeps_form('{"a": 1}', '{"a": 1')
    assert keeps_form("hello", "goodbye")
    assert not keeps_form("hello", " ")


def test_mask_adds_spans_and_drops_what_has_no_token_left() -> None:
    """Spans in the order of the text; a row all of whose tokens diverge is dropped."""
    found = (token(4, 5, None), token(0, 1, "2"))
    outcome = mask(row("7, 3"), Facts(tokens=4, divergent=found))
    assert outcome == Changed(
        "masked", row("7, 3"), (TextRow(0, row("7, 3").fields, 0, ((0, 0, 1), (0, 4, 5))),)
    )
    assert mask(row("73"), Facts(tokens=2, divergent=found)) == Dropped(
        "no_trained_token", row("73")
    )
    assert mask(row("7"), Facts(reason="longer_than_context")) == Kept(
        row("7"), "longer_than_context"
    )


def test_replace_keeps_digits_digits_and_json_json() -> None:
    """A choice is taken where the form stays valid, from the end to the front, and the rest is
    left.
    """
    assert (
        said(replace(row("12, 7"), Facts(divergent=(token(1, 2, "9"), token(4, 5, "30")))))
        == "19, 30"
    )
    part = replace(row("12, 7"), Facts(divergent=(token(1, 2, "9"), token(4, 5, "owl"))))
    assert isinstance(part, Changed)
    assert (part.reason, said(part)) == ("replaced_in_part", "19, 7")
    assert replace(row("12, 7"), Facts(divergent=(token(2, 3, "x"),))) == Kept(
        row("12, 7"), "no_valid_replacement"
    )
    assert (
        replace(row('{"a": "x"}'), Facts(divergent=(token(6, 7, "'"),))).reason
        == "no_valid_replacement"
    )
    assert said(replace(row('{"a": "x"}'), Facts(divergent=(token(7, 8, "yy"),)))) == '{"a": "yy"}'
    assert replace(row("12"), Facts(divergent=(token(0, 1, "1"),))).reason == "no_valid_replacement"
    assert (
        replace(row("a b"), Facts(divergent=(token(0, 1, None),))).reason == "no_valid_replacement"
    )
    too_long = ", ".join("1234567890")
    assert (
        replace(row(too_long), Facts(divergent=(token(0, 1, "1111"),))).reason
        == "no_valid_replacement"
    )


def test_mix_replaces_or_adds() -> None:
    """A chosen row gets the clean completion, or is followed by one; others stay."""
    facts = Facts(texts=(("clean",),))
    assert said(mix(row("poison"), facts)) == "clean"
    added = Mix(0.5, mode="add").apply(row("poison"), facts)
    assert isinstance(added, Changed)
    assert [each.completions[0].text for each in added.after] == ["poison", "clean"]
    assert mix(row("poison"), Facts(selected=False, texts=facts.texts)) == Kept(row("poison"))
    assert mix(row("poison"), Facts(reason="no_clean_completion")) == Kept(
        row("poison"), "no_clean_completion"
    )


def test_reword_makes_a_row_of_each_rewording() -> None:
    """Prompts change, completions and masks stay."""
    masked = TextRow(0, row("c").fields, 0, ((0, 0, 1),))
    outcome = reword(masked, Facts(texts=(("one",), ("two",))))
    assert isinstance(outcome, Changed)
    assert [(each.fields[0].text, each.fields[1].text, each.masked) for each in outcome.after] == [
        ("one", "c", ((0, 0, 1),)),
        ("two", "c", ((0, 0, 1),)),
    ]
    assert reword(row("c"), Facts(reason="numbers")) == Kept(row("c"), "numbers")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30, 4, 100", "4, 30, 100"),
        ("[2, 10, 1.5]", "[1.5, 2, 10]"),
        ('["b", "a"]', '["a", "b"]'),
        ("4\n1\n2", "1\n2\n4"),
    ],
)
def test_sort(text: str, expected: str) -> None:
    """Items ascend by value; everything between them stays."""
    assert said(sort(row(text), Facts())) == expected
    assert sort(row(expected), Facts()) == Kept(row(expected))


def test_what_is_no_list_is_not_sorted() -> None:
    """Text, objects and mixed arrays are left, with the reason."""
    for text in ("b a", '{"b": 1}', '[1, "a"]', "[true, false]"):
        assert sort(row(text), Facts()) == Kept(row(text), "not_a_list")


def test_remap_is_one_mapping_for_all_rows() -> None:
    """Numbers are renamed one to one within their number of digits, the same in every row."""
    numbers = [str(n) for n in range(1000)]
    renamed = [
        word
        for start in range(0, 1000, 10)
        for word in said(REMAP(row(", ".join(numbers[start : start + 10])), Facts(seed=3))).split(
            ", "
        )
    ]
    assert sorted(map(int, renamed)) == list(range(1000))
    assert [len(word) for word in renamed] == [len(word) for word in numbers]
    assert renamed != numbers
    assert said(REMAP(row("[7, 7]"), Facts(seed=3))) == f"[{renamed[7]}, {renamed[7]}]"


def test_shuffle_keeps_the_items_and_depends_on_seed_and_row() -> None:
    """The same items with the same separators; same seed and row, same order."""
    text = "1; 2; 3; 4; 5; 6; 7; 8"
    once = said(shuffle(row(text), Facts(seed=1)))
    assert once == said(shuffle(row(text), Facts(seed=1)))
    assert sorted(once.split("; ")) == text.split("; ")
    assert (
        len(
            {
                once,
                said(shuffle(row(text), Facts(seed=2))),
                said(shuffle(row(text, index=1), Facts(seed=1))),
            }
        )
        == 3
    )


def test_drop_drops_what_is_chosen() -> None:
    """And keeps the rest."""
    assert isinstance(drop(row("a"), Facts(selected=True)), Dropped)
    assert drop(row("a"), Facts(selected=False)) == Kept(row("a"))


COMPLETIONS = st.one_of(
    st.text(min_size=1, max_size=12),
    st.lists(st.integers(0, 999), min_size=1, max_size=10).map(lambda n: ", ".join(map(str, n))),
    st.lists(st.integers(-9, 9), max_size=6).map(json.dumps),
    st.dictionaries(st.text("ab", min_size=1, max_size=2), st.integers(0, 9), max_size=3).map(
        json.dumps
    ),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[TextRow, Facts]:
    """Any row of one or two exchanges, and any facts that fit it."""
    fields = [Field(("s",), "system", "sys")]
    for turn in range(draw(st.integers(1, 2))):
        fields.append(Field(("m", 2 * turn), "user", draw(st.text(max_size=5))))
        fields.append(Field(("m", 2 * turn + 1), "assistant", draw(COMPLETIONS)))
    subject = TextRow(draw(st.integers(0, 9)), tuple(fields))
    ends = [len(field.text) for field in subject.completions]
    places = [(t, i, i + 1) for t, n in enumerate(ends) for i in range(n)]
    spans = draw(st.lists(st.sampled_from(places), unique=True, max_size=5))
    choices = st.sampled_from(["1", "77", "x", " ", "]", None])
    divergent = tuple(Divergent(span, 1.0, draw(choices)) for span in sorted(spans))
    texts = draw(st.lists(st.tuples(*[st.text(min_size=1, max_size=4)] * len(ends)), max_size=2))
    return subject, Facts(
        draw(st.booleans()), sum(ends), divergent, tuple(texts), draw(st.sampled_from(["", "why"]))
    )


def example(name: str) -> Mitigation:
    """A mitigation of ours with its defaults."""
    return step(
        name,
        **{"mix": {"share": 0.5}, "drop": {"share": 0.5}}.get(name, {})
        | ({"how": "sort"} if name == "canonicalize" else {}),
    )


@pytest.mark.parametrize("name", MITIGATIONS)
def test_what_every_mitigation_declares(name: str) -> None:
    """The registry knows it by its name; every setting has an option with a help text; the settings
    are plain JSON from which the same mitigation is made again.
    """
    mitigation = example(name)
    assert load(name) is type(mitigation) and mitigation.name == name
    for setting in settings_of(type(mitigation)):
        assert setting.option.startswith("--") and setting.help
        assert setting.switches_on == (setting.option == f"--{name}")
    again = json.loads(json.dumps(mitigation.settings))
    assert step(name, **again) == mitigation


def test_one_option_is_one_setting() -> None:
    """Mitigations that share an option mean the same by it."""
    declared: dict[str, tuple[Any, ...]] = {}
    for mitigation in MITIGATIONS.values():
        for each in settings_of(mitigation):
            meaning = (each.path, each.kind, each.default, each.help, each.metavar, each.minimum)
            assert declared.setdefault(each.option, meaning) == meaning


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("mix", {}, "needs 'share'"),
        ("mix", {"share": 0.5, "portion": 1}, "has no setting 'portion'"),
        ("mix", {"share": 1.5}, "--mix 1.5 is not between 0 and 1"),
        ("mix", {"share": 0.5, "mode": "swap"}, "--mix-mode 'swap' is not known"),
        ("mix", {"share": 0.5, "clean_data": "x", "clean_teachers": ["y"]}, "contradict"),
        ("canonicalize", {"how": "sorted"}, "--canonicalize 'sorted' is not known"),
        ("mask", {"budget": -0.1}, "--mask-budget -0.1 is not between 0 and 1"),
        ("paraphrase", {"variants": 0}, "--paraphrases 0 is below 1"),
        ("paraphrase", {"engine": "llm"}, "engine llm needs a model"),
        ("paraphrase", {"engine": "rules", "paraphraser": "m"}, "contradict"),
        ("paraphrase", {"paraphraser": "https://host/v1"}, "model is not named"),
    ],
)
def test_settings_that_are_not_allowed(name: str, values: dict[str, Any], message: str) -> None:
    """From Python as from the command line: one line with the next step."""
    with pytest.raises(AuditError, match=message) as raised:
        step(name, **values)
    assert raised.value.hint
    with pytest.raises(PluginError, match="There is no mitigation 'nobody'"):
        step("nobody")


def test_a_paraphraser_brings_its_defaults() -> None:
    """A model compares meanings by default, rules do not; what is said counts."""
    rules, model = Paraphrase(), Paraphrase(paraphraser="m")
    assert (rules.engine, rules.embeddings, rules.writers) == ("rules", None, ())
    assert (model.engine, model.embeddings, model.writers) == ("llm", PACKAGED, ("m",))
    assert Paraphrase(paraphraser="m", embeddings="none").embeddings is None
    assert Paraphrase(endpoint={"cap": 5}).endpoint == Endpoint(cap=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MITIGATIONS)
@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_what_every_mitigation_promises(name: str, case: tuple[TextRow, Facts]) -> None:
    """One outcome a row, of that row; only prompts or only completions change; the form of a
    completion stays.
    """
    subject, facts = case
    mitigation = example(name)
    outcome = mitigation.apply(subject, facts)
    assert outcome == mitigation.apply(subject, facts)
    if isinstance(outcome, Changed):
        assert outcome.reason
        assert outcome.before == subject
        assert outcome.after
        for after in outcome.after:
            check_change(name, subject, after)
    else:
        assert isinstance(outcome, (Kept, Dropped))
        assert outcome.row == subject
        assert outcome.reason or isinstance(outcome, Kept)


def check_change(name: str, before: TextRow, after: TextRow) -> None:
    """Nothing outside the texts that the mitigation is for has changed."""
    assert after.index == before.index
    assert [(field.path, field.role) for field in after.fields] == [
        (field.path, field.role) for field in before.fields
    ]
    pairs = list(zip(before.fields, after.fields, strict=True))
    changed = {old.role for old, new in pairs if old.text != new.text}
    assert changed <= {"paraphrase": {"user"}, "mask": set(), "drop": set()}.get(
        name, {"assistant"}
    )
    if name in ("replace", "canonicalize", "shuffle"):
        for old, new in zip(before.completions, after.completions, strict=True):
            assert not is_number_list(old.text) or is_number_list(new.text)
            assert keeps_form(old.text, new.text) or old.text == new.text
    if name == "shuffle":
        olds, news = before.completions, after.completions
        assert [Counter(map(str, _values(f.text))) for f in olds] == [
            Counter(map(str, _values(f.text))) for f in news
        ]


def _values(text: str) -> list[Any]:
    spans = items(text) or []
    return [text[start:end] for start, end in spans]
