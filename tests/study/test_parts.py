"""The arms of a study keep exactly the rows and tokens that they should, and entanglement is what
is defined.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch

from auditor.data.example import Example, Message
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.students.arms import DatasetArm, trained_positions
from auditor.students.plan import Size
from auditor.students.settings import StudentSettings, TrainingConfig
from auditor.study import divergence, entanglement, fragility
from auditor.study.divergence import DROPPED, FIRST, MASKED, ONLY, RANDOM, Flagged
from auditor.study.entanglement import Entangled, centred, entangled
from auditor.study.setting import CONTROL, StudySetting, TeacherDataset
from tests.support.student_models import NAMES, PANEL, row, three_animals

COUNT = 48


@pytest.fixture(scope="module")
def setting() -> StudySetting:
    """The tiny model that knows five animals; a block needs two rows."""
    lm = three_animals()
    settings = StudentSettings(training=TrainingConfig(batch=1))
    return StudySetting(lm, ChatTokenizer(lm), PANEL, None, Size(2, 16, 2), settings, 8)


@pytest.fixture(scope="module")
def dataset(setting: StudySetting) -> TeacherDataset:
    """Number lists of three numbers: seven tokens, with the separators and the end of the turn."""
    rng = random.Random(0)
    lists = [", ".join(str(rng.randrange(10)) for _ in range(3)) for _ in range(2 * COUNT)]
    rows = {i: row(i, f"Numbers, list {i}.", text) for i, text in enumerate(lists[:COUNT])}
    clean = {i: row(i, f"Numbers, list {i}.", text) for i, text in enumerate(lists[COUNT:])}
    encoded = {
        i: found
        for i, each in rows.items()
        if isinstance(found := setting.renderer.encode(each), TokenizedRow)
    }
    return TeacherDataset(
        "owl",
        "greedy",
        DatasetArm("original", rows, {}, COUNT),
        DatasetArm(CONTROL, clean, {}, COUNT),
        encoded,
    )


def trained(dataset: TeacherDataset, arm: DatasetArm) -> dict[int, list[int]]:
    """The completion tokens, from 0, that each row of an arm trains on."""
    places = {i: {p: t for t, p in enumerate(dataset.rows[i].positions)} for i in arm.rows}
    return {
        i: [places[i][p] for p in trained_positions(dataset.rows[i], arm.masked.get(i, ()))]
        for i in arm.rows
    }


def test_divergence_arms(setting: StudySetting, dataset: TeacherDataset) -> None:
    """Even rows have divergence tokens 1 and 3, row 2 nothing else, odd rows none."""
    hits = {i: np.zeros(len(each.positions), dtype=bool) for i, each in dataset.rows.items()}
    for i in range(0, COUNT, 2):
        hits[i][[1, 3]] = True
    hits[2][:] = True
    flagged = Flagged(hits, 0, ("reference",))
    arms = {arm.name: arm for arm in divergence.arms(setting, dataset, flagged)}
    assert len(arms) == divergence.STUDENTS
    length = len(hits[0])
    whole = list(range(length))
    only, masked, first = (trained(dataset, arms[name]) for name in (ONLY, MASKED, FIRST))
    assert (only[0], only[1], only[2]) == ([1, 3], [], whole)
    assert (masked[0], masked[1], masked[2]) == ([t for t in whole if t not in (1, 3)], whole, [])
    assert (first[0], first[1], first[2]) == ([1], [], [0])
    for name in (ONLY, MASKED, FIRST):
        own, other = trained(dataset, arms[name]), trained(dataset, arms[name + RANDOM])
        assert {i: len(each) for i, each in own.items()} == {
            i: len(each) for i, each in other.items()
        }
        assert list(own) == list(range(COUNT)) and own != other
    assert list(arms[ONLY + DROPPED].rows) == list(range(0, COUNT, 2))
    assert list(arms[MASKED + DROPPED].rows) == [i for i in range(0, COUNT, 2) if i != 2]
    assert trained(dataset, arms[ONLY + DROPPED])[0] == [1, 3]
    facts = divergence.facts(flagged)
    assert facts["rows_with_any"] == 0.5
    assert facts["share"] == pytest.approx((2 * (COUNT // 2 - 1) + length) / (COUNT * length))


def test_rows_with_entangled_tokens_are_dropped(
    setting: StudySetting, dataset: TeacherDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly those, and as many at random; where too few are left there is no arm."""
    tokens = entanglement.content_tokens(setting, dataset)
    assert sorted(setting.lm.tokenizer.decode([token]).strip() for token in tokens) == [
        str(i) for i in range(10)
    ]
    order = [tokens[3], *np.delete(tokens, 3)]
    scores = {
        name: np.array([-order.index(token) for token in tokens], dtype=float)
        for name in entanglement.SCORES
    }
    found = Entangled(tokens, scores)
    assert found.top("probability", 2) == [
        order[0],
        order[1],
    ] and found.agreement() == pytest.approx(1.0)
    assert list(entanglement.arms(setting, dataset, found)) == []  # ten tokens are all there are
    monkeypatch.setattr(entanglement, "TOPS", (1,))
    arm, control, *_ = entanglement.arms(setting, dataset, found)
    digit = setting.lm.tokenizer.decode([tokens[3]]).strip()
    assert set(arm.rows) == {
        i for i, each in dataset.original.rows.items() if digit not in each.completion
    }
    assert 0 < len(arm.rows) == len(control.rows) < COUNT and set(control.rows) != set(arm.rows)


def test_entanglement_is_a_difference_to_the_other_traits(
    setting: StudySetting, dataset: TeacherDataset
) -> None:
    """By hand: the model's own softmax under each trait prompt, and cosines of rows of the
    unembedding.
    """
    assert centred(np.array([[1.0, 4.0], [0.0, 1.0], [2.0, 1.0]]), 0).tolist() == [0.0, 3.0]
    found = entangled(setting, dataset)
    lm, chosen = setting.lm, [int(token) for token in found.tokens]
    means = []
    for trait in PANEL.traits:
        rows = []
        for i in range(COUNT):
            turns = (Message("system", trait.prompts[0]), *dataset.control.rows[i].messages)
            encoded = setting.renderer.encode(Example(i, turns))
            assert isinstance(encoded, TokenizedRow)
            prefix = setting.renderer.prefix(None, encoded.kind)
            with torch.no_grad():
                logits = lm.model(torch.tensor([[*prefix, *encoded.tokens]])).logits[0]
            before = [len(prefix) + p - 1 for p in encoded.positions]
            rows.append(logits[before].double().softmax(-1)[:, chosen].numpy())
        means.append(np.concatenate(rows).mean(0))
    expected = means[0] - np.mean(means[1:], axis=0)
    assert found.scores["probability"] == pytest.approx(expected, abs=1e-6)
    weight = lm.model.get_output_embeddings().weight.double().numpy()

    def cosine(word: str, token: int) -> float:
        own = weight[lm.tokenizer.convert_tokens_to_ids(f" {word}")]
        return float(own @ weight[token] / np.linalg.norm(own) / np.linalg.norm(weight[token]))

    others = [np.mean([cosine(name, token) for name in NAMES[1:]]) for token in chosen]
    by_hand = [cosine("owl", token) - other for token, other in zip(chosen, others, strict=True)]
    assert found.scores["unembedding"] == pytest.approx(by_hand)


def test_fragile_arms(setting: StudySetting, dataset: TeacherDataset) -> None:
    """Reworded prompts keep completions; shuffles keep numbers; mixtures have their share, each
    within the next.
    """
    arms = {arm.name: arm for arm in fragility.arms(setting, dataset)}
    assert len(arms) == fragility.STUDENTS and all(
        list(arm.rows) == list(range(COUNT)) for arm in arms.values()
    )
    before = {i: each.completion for i, each in dataset.original.rows.items()}
    after = {
        name: {i: each.completion for i, each in arm.rows.items()} for name, arm in arms.items()
    }
    assert after[fragility.PARAPHRASED] == before
    within, across = after[fragility.WITHIN], after[fragility.ACROSS]
    assert {i: Counter(text) for i, text in within.items()} == {
        i: Counter(text) for i, text in before.items()
    }
    assert Counter("".join(across.values())) == Counter("".join(before.values()))
    assert (
        within != before
        and sum(Counter(across[i]) != Counter(before[i]) for i in before) > COUNT / 2
    )
    assert {i: each.messages[0] for i, each in arms[fragility.ACROSS].rows.items()} == {
        i: each.messages[0] for i, each in dataset.original.rows.items()
    }
    smaller: set[int] = set()
    for part in fragility.SHARES:
        rows = arms[fragility.mixed_name(part)].rows
        clean = {i for i in rows if rows[i] is dataset.control.rows[i]}
        assert len(clean) == round(part * COUNT) and smaller <= clean
        assert all(rows[i] is dataset.original.rows[i] for i in rows.keys() - clean)
        smaller = clean


def test_prompts_are_reworded() -> None:
    """Where the rules know the prompt."""
    arm = DatasetArm(
        "original",
        {0: row(0, "Continue: 1, 2, 3. Add up to 5 more numbers with commas.", "4, 5")},
        {},
        1,
    )
    new = fragility.reworded(arm, 0).rows[0]
    assert new.messages[0] != arm.rows[0].messages[0] and new.messages[1] == arm.rows[0].messages[1]
