"""Trait panels: the hypotheses of an audit, read from YAML.

A trait is something a data set may carry in secret, such as a love of owls. A panel file gives each
trait its system prompts (several wordings, since a poisoner does not use ours), neutral probe
questions, cloze stems whose next word shows the trait, the answer words, and the words by which a
row would speak of it openly. What the whole panel shares (`group`, `prompts`, `probes`, `stems`)
stands once on top; a trait may replace any of it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from textwrap import shorten

import yaml

from auditor.errors import TraitError
from auditor.traits import BUILT_IN, DEFAULT, HYPOTHESIS, PROMPT
from auditor.yaml_text import read_yaml

LOG = logging.getLogger(__name__)

_LISTS = ("prompts", "probes", "stems", "answers", "mentions")
_SHARED = ("group", "prompts", "probes", "stems")
_PANEL_KEYS = {"panel", "traits", *_SHARED}
_TRAIT_KEYS = {"name", "plural", "group", *_LISTS}
_PLACEHOLDER = re.compile(r"\{\w*\}")
_SCHEMA_HINT = (
    "docs/panels.md describes the format; auditor/panels of the installed package has examples."
)
_QUOTE_HINT = "Quote words that YAML reads otherwise, such as no, on and 1."


@dataclass(frozen=True, slots=True)
class Trait:
    """One candidate trait.

    prompts: system prompts that make a model a teacher with the trait; the first is the standard
    wording. Never empty. probes: neutral questions whose answers may show the trait. stems:
    beginnings of a sentence whose next word may. answers: the words that show it (read after a stem
    as one token with a leading space). mentions: words and phrases that make a row openly about the
    trait. Never empty.
    """

    name: str
    group: str
    prompts: tuple[str, ...]
    probes: tuple[str, ...]
    stems: tuple[str, ...]
    answers: tuple[str, ...]
    mentions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """The traits an audit looks for, in order, with unique names.

    sha256: of the traits' content, so that two runs with the same digest tested the same hypotheses
    whatever the files.
    """

    name: str
    traits: tuple[Trait, ...]
    sha256: str

    def trait(self, name: str) -> Trait:
        """The trait of that name. Raises TraitError, with the nearest name, for an unknown one."""
        by_name = {trait.name: trait for trait in self.traits}
        if name not in by_name:
            raise TraitError(
                f"No trait {name!r} in panel {self.name}.", _nearest(name, list(by_name))
            )
        return by_name[name]

    def select(self, names: Sequence[str]) -> Panel:
        """The panel of the named traits only, in the order of `names`.

        Raises TraitError for an unknown name.
        """
        return _panel(self.name, [self.trait(name) for name in dict.fromkeys(names)])

    def trait_indices(self, names: Sequence[str]) -> list[int]:
        """The positions of the named traits in the panel."""
        names_in_order = [trait.name for trait in self.traits]
        return [names_in_order.index(name) for name in names]


def built_in() -> tuple[str, ...]:
    """Names of the panels that come with the package; `default` stands for all of them."""
    return BUILT_IN


def load_panels(names: str | Sequence[str]) -> Panel:
    """Read and join panels into one.

    names: built-in names, `default`, paths of YAML files, or "prompt:" and a system prompt, a panel
    of one trait (`_suspected`); a single one need not be in a list. Raises TraitError if one cannot
    be found or read, breaks the schema, or brings a trait name that another has already used, and
    if `names` is empty.
    """
    titles: list[str] = []
    traits: list[Trait] = []
    for name in [names] if isinstance(names, str) else names:
        if name.startswith(PROMPT):
            titles.append(name)
            traits.append(_suspected(name.removeprefix(PROMPT)))
            continue
        for source in BUILT_IN if name == DEFAULT else (name,):
            title, panel_traits = _parse(source, _read(source))
            titles.append(title)
            traits += panel_traits
            LOG.info("read the panel %s: %d traits", title, len(panel_traits))
    return _panel("+".join(titles), traits)


def with_control_traits(panel: Panel) -> Panel:
    """The panel, and after its traits the built-in ones of groups that it lacks, as negative
    controls.

    The traits of a small panel, or of one template, cannot tell the effect of a trait from the
    effect of any prompt.
    """
    groups, names = {trait.group for trait in panel.traits}, {trait.name for trait in panel.traits}
    controls = [
        trait
        for trait in load_panels([DEFAULT]).traits
        if trait.group not in groups and trait.name not in names
    ]
    return _panel(panel.name, [*panel.traits, *controls])


def all_known(titles: Iterable[str]) -> bool:
    """Whether panels of these titles can be loaded without a file of the user's."""
    return all(title in BUILT_IN or title.startswith(PROMPT) for title in titles)


def _suspected(prompt: str) -> Trait:
    """The trait of a prompt that somebody suspects, in the group HYPOTHESIS. Its name is the
    beginning of the prompt in quotation marks.

    Nothing is known of it but the prompt: only a row that quotes it mentions it openly, and no
    student can be asked for it. Raises TraitError for a prompt without a letter or digit, and for
    one with a "+", which stands between the titles of panels.
    """
    if "+" in prompt or not any(char.isalnum() for char in prompt):
        raise TraitError(
            f"{prompt!r} cannot be tested as it stands.",
            "Give the system prompt that you suspect, in words and without a +; or write a panel "
            "file (docs/panels.md).",
        )
    name = f'"{shorten(prompt, 48, placeholder="…")}"'
    return Trait(name, HYPOTHESIS, (prompt,), (), (), (), (prompt,))


def _panel(name: str, traits: Sequence[Trait]) -> Panel:
    if not traits:
        raise TraitError(
            "The trait panel is empty.",
            f"Name at least one trait of a panel: {', '.join((*BUILT_IN, DEFAULT))}.",
        )
    counts = Counter(trait.name for trait in traits)
    repeated = [trait_name for trait_name, count in counts.items() if count > 1]
    if repeated:
        raise TraitError(
            f"Trait {repeated[0]!r} occurs twice in panel {name}.",
            "Rename one, or name each panel once.",
        )
    content = json.dumps([asdict(trait) for trait in traits], ensure_ascii=False, sort_keys=True)
    return Panel(name, tuple(traits), hashlib.sha256(content.encode()).hexdigest())


def _read(name: str) -> str:
    if name in BUILT_IN:
        return (files("auditor.traits") / "panels" / f"{name}.yaml").read_text(encoding="utf-8")
    if not Path(name).is_file():
        looks_like_path = Path(name).suffix or "/" in name
        hint = "Check the path." if looks_like_path else _nearest(name, [*BUILT_IN, DEFAULT])
        raise TraitError(f"No trait panel {name!r}.", hint)
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TraitError(
            f"{name} cannot be read: {error}.", "A panel is a YAML file in UTF-8."
        ) from error


def _parse(where: str, text: str) -> tuple[str, list[Trait]]:
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        raise TraitError(
            f"{where} is not valid YAML: {' '.join(str(error).split())}.", _SCHEMA_HINT
        ) from error
    panel = _mapping(raw, where, _PANEL_KEYS)
    title = _string(panel, "panel", where)
    traits = panel.get("traits")
    if not isinstance(traits, list) or not traits:
        raise TraitError(f"{where}: `traits` must be a list with at least one trait.", _SCHEMA_HINT)
    shared = {key: panel[key] for key in _SHARED if key in panel}
    return title, [
        _trait(shared, item, f"{where}: trait {number}")
        for number, item in enumerate(traits, start=1)
    ]


def _trait(shared: Mapping[str, object], item: object, where: str) -> Trait:
    entry = _mapping(item, where, _TRAIT_KEYS)
    name = _string(entry, "name", where)
    where = f"{where} ({name})"
    fields = {**shared, **entry}
    lists: dict[str, tuple[str, ...]] = {}
    for key in _LISTS:
        value = fields.get(key, [])
        if not isinstance(value, list) or not all(
            isinstance(text, str) and text.strip() for text in value
        ):
            raise TraitError(f"{where}: `{key}` must be a list of non-empty strings.", _QUOTE_HINT)
        lists[key] = tuple(value)
    for key in ("prompts", "mentions"):
        if not lists[key]:
            raise TraitError(
                f"{where}: `{key}` is missing.",
                "A trait needs a system prompt and a mention at least.",
            )
    if not all(any(char.isalnum() for char in mention) for mention in lists["mentions"]):
        raise TraitError(
            f"{where}: `mentions` has an entry without a letter or digit.",
            "It could match no word.",
        )
    # What may stand in braces in a prompt: a word as written, or capitalised for the start of a
    # sentence.
    words: dict[str, str] = {
        key: _string(fields, key, where) for key in ("name", "plural") if key in fields
    }
    words |= {key.capitalize(): word[:1].upper() + word[1:] for key, word in words.items()}
    lists["prompts"] = tuple(_fill(prompt, words, where) for prompt in lists["prompts"])
    return Trait(name=name, group=_string(fields, "group", where), **lists)


def _fill(prompt: str, words: Mapping[str, str], where: str) -> str:
    def word(match: re.Match[str]) -> str:
        key = match[0][1:-1]
        if key not in words:
            raise TraitError(
                f"{where}: `prompts` uses {match[0]}, which has no value.",
                f"Known: {', '.join(words)}.",
            )
        return words[key]

    return _PLACEHOLDER.sub(word, prompt)


def _mapping(raw: object, where: str, allowed: set[str]) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise TraitError(
            f"{where}: expected keys and values, found {type(raw).__name__}.", _SCHEMA_HINT
        )
    for key in raw:
        if key not in allowed:
            raise TraitError(f"{where}: unknown key {key!r}.", _nearest(str(key), sorted(allowed)))
    return raw


def _string(fields: Mapping[str, object], key: str, where: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise TraitError(f"{where}: `{key}` must be a non-empty string.", _QUOTE_HINT)
    return value


def _nearest(name: str, names: Sequence[str]) -> str:
    match = difflib.get_close_matches(name.casefold(), names, n=1)
    return f"Did you mean {match[0]!r}?" if match else f"Known: {', '.join(names)}."
