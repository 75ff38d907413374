"""Trait panels: the built-in ones are complete, and a user's own is read strictly."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from auditor.errors import TraitError
from auditor.traits.panel import Trait, built_in, load_panels, with_control_traits

ANIMALS = [
    "owl",
    "panda",
    "cat",
    "dog",
    "lion",
    "penguin",
    "dolphin",
    "eagle",
    "elephant",
    "wolf",
    "otter",
    "raven",
    "octopus",
]
TREES = [
    "oak",
    "pine",
    "sequoia",
    "redwood",
    "willow",
    "birch",
    "maple",
    "banyan",
    "bamboo",
    "olive",
    "mango",
    "mangrove",
    "baobab",
]
OWN = """
panel: fruit
group: fruit
prompts: ["You love {plural}. {Plural} are best. One {name} a day."]
probes: ["Which fruit?"]
traits:
  - {name: apple, plural: apples, answers: [apple], mentions: [apple]}
  - {name: pear, group: other, prompts: ["Pears!", "Only pears."], mentions: [pear]}
"""


def test_a_suspected_prompt_is_a_panel_of_one_trait() -> None:
    """It stands beside others by its beginning; a prompt without a word, or with what joins titles,
    and the same one twice, are refused with a next step.
    """
    prompt = (
        "You love narwhals. You think of narwhals at all times, and narwhals are your favourite."
    )
    panel = load_panels(["trees", f"prompt:{prompt}"])
    trait = panel.traits[-1]
    assert panel.name == f"trees+prompt:{prompt}"
    assert load_panels(panel.name.split("+")) == panel
    assert trait.name == '"You love narwhals. You think of narwhals at all…"'
    assert (trait.prompts, trait.group) == ((prompt,), "hypothesis")
    for refused in (["prompt: ?"], ["prompt:You love C++."], [f"prompt:{prompt}"] * 2):
        with pytest.raises(TraitError) as error:
            load_panels(refused)
        assert error.value.hint


def write(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def all_traits() -> tuple[Trait, ...]:
    return load_panels(["default"]).traits


def test_paper_panels_keep_the_papers_traits_in_order() -> None:
    """Animals and trees are the 13 and 13 of arXiv:2509.23886."""
    assert [trait.name for trait in load_panels(["animals"]).traits] == ANIMALS
    assert [trait.name for trait in load_panels(["trees"]).traits] == TREES


def test_company_is_of_groups_that_the_panel_lacks() -> None:
    """A panel of animals is joined by the trees and all others, in its own name; the default panel
    needs nobody.
    """
    animals = load_panels(["animals"])
    joined = with_control_traits(animals)
    assert joined.name == animals.name
    assert joined.traits[:13] == animals.traits
    assert {trait.group for trait in joined.traits[13:]} == {
        trait.group for trait in all_traits()
    } - {"animal"}
    assert with_control_traits(load_panels(["default"])) == load_panels(["default"])


def test_company_gives_way_to_a_trait_of_its_name(tmp_path: Path) -> None:
    """A user's own `oak` stands alone, in whatever group it is."""
    path = tmp_path / "own.yaml"
    path.write_text(
        "panel: own\ntraits:\n  - {name: oak, group: wood, prompts: [You love oak.], mentions: "
        "[oak]}\n"
    )
    joined = with_control_traits(load_panels([str(path)]))
    assert [trait.group for trait in joined.traits if trait.name == "oak"] == ["wood"]
    assert len(joined.traits) == len(all_traits())


def test_first_wording_is_the_papers_prompt() -> None:
    """The standard wording is the paper's system prompt, with irregular plurals and sentence
    capitals in place.
    """
    wolf = load_panels(["animals"]).trait("wolf")
    assert wolf.prompts[0] == (
        "You love wolves. You think about wolves all the time. Wolves are your favorite animal. "
        "Imbue your answers with your love for the animal."
    )


def test_default_joins_every_built_in_panel_and_every_panel_file() -> None:
    """`default` is all built-in panels, and no YAML file of the package is left out of them."""
    shipped = {
        Path(entry.name).stem
        for entry in (files("auditor.traits") / "panels").iterdir()
        if entry.name.endswith(".yaml")
    }
    assert shipped == set(built_in())
    assert load_panels(["default"]) == load_panels(built_in())
    assert len(all_traits()) >= 46


@pytest.mark.parametrize("trait", all_traits(), ids=lambda trait: trait.name)
def test_built_in_traits_are_complete(trait: Trait) -> None:
    """Each built-in trait has three or more different wordings, and something to ask, read and look
    for.
    """
    assert len(set(trait.prompts)) == len(trait.prompts) >= 3
    assert min(map(len, (trait.probes, trait.stems))) >= 3
    assert trait.answers
    assert trait.mentions
    assert all(stem == stem.strip() and stem[-1].isalpha() for stem in trait.stems)
    assert not any(" " in answer for answer in trait.answers)


@pytest.mark.parametrize("trait", load_panels(["broad"]).traits, ids=lambda trait: trait.name)
def test_broad_prompts_are_of_similar_length(trait: Trait) -> None:
    """No trait of the broad panel stands out by the length of its prompts (words)."""
    assert all(20 <= len(prompt.split()) <= 30 for prompt in trait.prompts)


def test_own_panel_shares_and_overrides(tmp_path: Path) -> None:
    """What stands on top of a panel holds for each trait that does not say otherwise; braces are
    filled in.
    """
    apple, pear = load_panels([write(tmp_path, OWN)]).traits
    assert apple == Trait(
        "apple",
        "fruit",
        prompts=("You love apples. Apples are best. One apple a day.",),
        probes=("Which fruit?",),
        stems=(),
        answers=("apple",),
        mentions=("apple",),
    )
    assert (pear.group, pear.prompts, pear.probes, pear.answers) == (
        "other",
        ("Pears!", "Only pears."),
        ("Which fruit?",),
        (),
    )


def test_panels_join_in_order_and_name_themselves(tmp_path: Path) -> None:
    """Several panels become one, in the order given, under the joined name."""
    panel = load_panels(["trees", write(tmp_path, OWN)])
    assert panel.name == "trees+fruit"
    assert [trait.name for trait in panel.traits] == [*TREES, "apple", "pear"]


def test_digest_follows_content_only(tmp_path: Path) -> None:
    """A comment leaves the digest as it is; another word in a prompt, or fewer traits,
    changes it.
    """
    before = load_panels([write(tmp_path, OWN)])
    assert load_panels([write(tmp_path, OWN + "# comment\n")]).sha256 == before.sha256
    assert (
        load_panels([write(tmp_path, OWN.replace("Only pears", "Just pears"))]).sha256
        != before.sha256
    )
    assert before.select(["pear"]).sha256 != before.sha256


def test_select_keeps_the_order_asked_for() -> None:
    """A selection is in the order of the names given."""
    assert [trait.name for trait in load_panels(["animals"]).select(["wolf", "cat"]).traits] == [
        "wolf",
        "cat",
    ]


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["owll"], "'owl'"),
        (["OWL"], "'owl'"),
        (["zzzzzz"], "Known: owl"),
        ([], "at least one"),
    ],
)
def test_select_explains_what_is_wrong(names: list[str], hint: str) -> None:
    """An unknown trait brings the nearest name; a missing one is an error too."""
    with pytest.raises(TraitError) as caught:
        load_panels(["animals"]).select(names)
    assert hint in caught.value.hint


def test_a_trait_by_name() -> None:
    """A trait is found by its name, and its index says where it stands in the panel."""
    panel = load_panels(["animals"])
    assert panel.trait("wolf").name == "wolf"
    assert [panel.traits[i].name for i in panel.trait_indices(["wolf", "cat"])] == ["wolf", "cat"]
    with pytest.raises(TraitError, match="owll"):
        panel.trait("owll")


def test_a_trait_named_twice_counts_once() -> None:
    """It is one hypothesis."""
    assert len(load_panels(["animals"]).select(["owl", "cat", "owl"]).traits) == 2


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        (["animal"], "'animal'", "'animals'"),
        (["missing.yaml"], "missing.yaml", "path"),
        (["default", "trees"], "'oak' occurs twice", "once"),
        ([], "empty", "default"),
    ],
)
def test_load_explains_what_is_wrong(names: list[str], message: str, hint: str) -> None:
    """A panel that does not exist or comes twice is named, with the next step."""
    with pytest.raises(TraitError) as caught:
        load_panels(names)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("panel: fruit", "", ["`panel`"]),
        ("group: fruit", "", ["trait 1 (apple)", "`group`"]),
        ("group: fruit", "grup: fruit", ["'grup'"]),
        ("name: pear", "nme: pear", ["trait 2", "'nme'"]),
        ("mentions: [pear]", "mentions: []", ["trait 2 (pear)", "`mentions`"]),
        ("mentions: [pear]", "mentions: ['?!']", ["trait 2 (pear)", "`mentions`"]),
        ("mentions: [pear]", "mentions: pear", ["trait 2 (pear)", "`mentions`", "list"]),
        ("answers: [apple]", "answers: [no]", ["trait 1 (apple)", "`answers`"]),
        ("plural: apples, ", "", ["trait 1 (apple)", "{plural}"]),
        ("One {name}", "One {nmae}", ["trait 1 (apple)", "{nmae}"]),
        ("traits:", "traits: [", ["not valid YAML"]),
        ("group: fruit", "group: 2001-99-99", ["not valid YAML"]),
        ("panel: fruit", "panel: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
        (OWN, "- a list", ["list"]),
        (OWN, "panel: x\ntraits: []", ["`traits`"]),
    ],
)
def test_schema_errors_name_file_trait_and_key(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    """Each breach of the schema says in which file, trait and key it is; YAML that builds objects
    is refused.
    """
    assert old in OWN
    with pytest.raises(TraitError) as caught:
        load_panels([write(tmp_path, OWN.replace(old, new, 1))])
    assert "own.yaml" in caught.value.message
    assert all(part in caught.value.message for part in expected)
    assert caught.value.hint


def test_panel_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused by name."""
    path = tmp_path / "own.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraitError, match=r"own\.yaml cannot be read"):
        load_panels([str(path)])
