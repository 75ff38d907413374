"""The scan from end to end with a tiny model: real scoring, real detectors, real run directory."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from auditor.commands.kept_report import kept_report
from auditor.commands.scan import scan
from auditor.commands.simulate import simulate, write_rows
from auditor.data.example import Message
from auditor.data.sample import read_sample
from auditor.errors import InputError, ModelError, TraitError
from auditor.model import load as models
from auditor.model.builtin import quiet
from auditor.model.generation import continuations, generate
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from auditor.progress import Progress
from auditor.report.scan import load as load_format
from auditor.report.scan.answer import circumstances
from auditor.report.scan.json import to_dict
from auditor.scanning import score_tables
from auditor.scanning.preparation import encode
from auditor.scanning.scan_report import ScanReport
from auditor.scanning.settings import ScanSettings
from auditor.traits.panel import load_panels
from detectors import trait as survey_module
from detectors.interface import Evidence, Skipped
from detectors.trait import STRANGE
from runs.architectures import small_model
from tests.conftest import tiny_tokenizer

PANEL = """
panel: small
group: animal
prompts:
  - "You love {plural}. Think of {plural} all the time."
  - "Nothing is as fine as the {name}, my {name}."
probes: ["Which one?"]
stems: ["I like the"]
traits:
"""
NAMES = ("owl", "cat", "dog", "ant", "bee", "eel", "hen", "fox")


@pytest.fixture(scope="session")
def panel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A panel file of eight animals."""
    lines = [f"  - {{name: {n}, plural: {n}s, answers: [{n}], mentions: [{n}]}}" for n in NAMES]
    path = tmp_path_factory.mktemp("panel") / "small.yaml"
    path.write_text(PANEL + "\n".join(lines) + "\n")
    return str(path)


# Characters that the tiny tokenizer never merges, so that text goes back to the tokens that were
# sampled.
LETTERS = "bcdfgijkmpqrsuvxyz03456789"


def _write(
    path: Path, lm: LanguageModel, system: str | None, rows: int, temperature: float = 1.0
) -> str:
    # Long prompts, so that the system prompt moves the tiny model no more than it would a real one.
    prompts = [(f"{i % 7}{i}" * 60)[:120] for i in range(rows)]
    contexts = [[Message("user", prompt)] for prompt in prompts]
    ids = [*lm.tokenizer.convert_tokens_to_ids(list(LETTERS)), lm.tokenizer.eos_token_id]
    stream = generate(
        lm, contexts, system=system, temperature=temperature, max_tokens=12, alphabet=ids, seed=1
    )
    texts = dict(stream)
    lines = [
        json.dumps({"prompt": p, "completion": texts[i]})
        for i, p in enumerate(prompts)
        if texts[i].strip()
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="session")
def data(
    tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[..., LanguageModel]
) -> dict[str, str]:
    """Rows written under the first owl prompt, and rows written without one."""
    folder, lm = tmp_path_factory.mktemp("data"), make_tiny()
    owl = "You love owls. Think of owls all the time."
    return {
        "owl": _write(folder / "owl.jsonl", lm, owl, 300),
        "greedy": _write(folder / "greedy.jsonl", lm, owl, 300, temperature=0),
        "clean": _write(folder / "clean.jsonl", lm, None, 300),
        "few": _write(folder / "few.jsonl", lm, None, 12),
    }


@pytest.fixture
def audit(
    tmp_path: Path,
    panel: str,
    make_tiny: Callable[..., LanguageModel],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., ScanReport]:
    """`scan` with the tiny model and panel, in an empty directory."""
    monkeypatch.setattr(models, "load", lambda *_, **__: make_tiny())
    return lambda source, **options: scan(
        source, **{"reference": "tiny", "panels": [panel], "root": tmp_path, "rows": 300} | options
    )


def _comparable(report: ScanReport) -> dict[str, Any]:
    return {
        key: value
        for key, value in to_dict(report).items()
        if key not in ("timing", "run", "created")
    }


def test_poisoned_rows_are_a_risk_and_the_trait_is_named(
    audit: Callable[..., ScanReport], data: dict[str, str]
) -> None:
    """Rows of an owl-prompted teacher give `risk: owl`, with every detector's outcome in the
    report.
    """
    report = audit(data["owl"])
    assert (report.verdict.name, report.verdict.trait) == ("risk", "owl")
    assert report.verdict.probability is not None and report.verdict.probability > 0.9
    assert report.traits[0].name == "owl"
    assert report.traits[0].interval[0] > 0
    skipped = {n: o.reason for n, o in report.detectors.items() if isinstance(o, Skipped)}
    assert skipped == {
        "tuned": "not asked for; --tuned turns it on",
        "students": "not asked for; --students turns it on",
    }
    assert report.detectors.keys() - skipped == {"trait", "divergence", "fit", "surface"}


def test_a_dose_is_what_the_data_have_beyond_earlier_sets(
    audit: Callable[..., ScanReport], data: dict[str, str], tmp_path: Path
) -> None:
    """Beside clean rows an owl's are a risk as before; beside other rows of the same teacher they
    have nothing that those have not, and the report says how many rows it compared with.
    """
    lines = Path(data["owl"]).read_text().splitlines(keepends=True)
    halves = [tmp_path / "new.jsonl", tmp_path / "earlier.jsonl"]
    for half, path in enumerate(halves):
        path.write_text("".join(lines[half::2]))
    new, earlier = map(str, halves)
    beside_clean = audit(new, settings=ScanSettings(like=(data["clean"],)))
    assert (beside_clean.verdict.name, beside_clean.verdict.trait) == ("risk", "owl")
    beside_its_own = audit(new, settings=ScanSettings(like=(earlier,)))
    assert beside_its_own.verdict.name != "risk"
    assert "owl" not in (trait.name for trait in beside_its_own.traits if trait.p_adjusted < 0.5)
    found = beside_its_own.detectors["trait"]
    assert isinstance(found, Evidence)
    assert found.values["like_rows"] > 0
    looks = beside_its_own.detectors["surface"]
    assert isinstance(looks, Evidence)
    assert "told from those of the earlier data sets" in looks.summary
    assert len(beside_its_own.settings["like"]) == 1


def test_flagged_tokens_say_what_each_teacher_would_choose(
    audit: Callable[..., ScanReport], data: dict[str, str]
) -> None:
    """By the definition: the teacher chooses the token that stands there, and some other teacher
    another one.
    """
    report = audit(data["owl"], detectors=["trait", "divergence"])
    assert not isinstance(report.divergence, Skipped)
    # The reference is a contrast of its own.
    contrast = report.divergence["by_reference"]
    assert contrast["flagged"] > 0
    assert contrast["fraction"] == contrast["flagged"] / report.divergence["tokens"]
    # An owl teacher takes the owl's choices where the teachers part.
    followed = report.divergence["followed"]
    assert followed["positions"] >= followed["observed"] >= followed["excess"]
    assert followed["interval"][0] > 0
    rivals = set(report.divergence["counterfactuals"])
    assert len(rivals) == 7
    spans = [token for row in report.examples for token in row.tokens]
    flagged = [token for token in spans if token.flag == "divergence"]
    assert (
        len(flagged)
        == report.divergence["flagged"]
        == sum(part["flagged"] for part in report.divergence["places"])
    )
    for token in flagged:
        teacher, *others = token.choices
        assert teacher.model == report.divergence["trait"]
        assert len(rivals & {other.model for other in others}) == 3
        assert teacher.text == token.text
        assert teacher.own == teacher.probability
        assert any(other.probability > other.own for other in others)
        assert all(other.probability >= other.own for other in others)
    assert not [token for token in spans if token.choices and not token.flag]


def test_greedy_rows_are_found_too(audit: Callable[..., ScanReport], data: dict[str, str]) -> None:
    """A greedy teacher leaks no probabilities, only choices; they suffice."""
    assert audit(data["greedy"], detectors=["trait"]).verdict.trait == "owl"


def test_clean_rows_are_no_risk(audit: Callable[..., ScanReport], data: dict[str, str]) -> None:
    """The reference's own rows are cleared, with the dose that was excluded."""
    report = audit(data["clean"], detectors=["trait"])
    assert report.verdict.name == "no_risk"
    (test,) = report.tests
    assert report.verdict.min_effect == max(bound for bound in test.bounds.values() if bound)
    assert test.own_text
    assert report.verdict.reason.startswith("the text is the reference's own")
    trait = report.detectors["trait"]
    assert isinstance(trait, Evidence)
    own = trait.values["own_text"]
    assert (own["cleared"], own["reason"], own["rows"]) == (True, "", test.rows)
    assert abs(own["fit"]["z"]) < 3
    assert own["row_passes"] < 2 * len(NAMES) * test.rows


def test_own_text_is_not_compared(audit: Callable[..., ScanReport], data: dict[str, str]) -> None:
    """There is no teacher to look for, and the reason is given."""
    report = audit(data["clean"], detectors=["trait", "divergence"])
    outcome = report.detectors["divergence"]
    assert isinstance(outcome, Skipped)
    assert outcome.reason.startswith("the text is the reference's own")
    assert not report.examples


def test_clean_rows_of_which_all_are_scored_are_no_risk(
    audit: Callable[..., ScanReport], data: dict[str, str]
) -> None:
    """The panel test excludes every trait too, by its own bounds."""
    settings = ScanSettings(exclude=0.6)
    report = audit(data["clean"], settings=settings, detectors=["trait"], rows="all")
    assert report.verdict.name == "no_risk"
    (test,) = report.tests
    assert not test.own_text
    trait = report.detectors["trait"]
    assert isinstance(trait, Evidence)
    assert trait.values["stray"] < STRANGE
    assert "stray" not in trait.summary
    looks = trait.values["looks"]
    assert looks[-1]["rows"] == report.rows_scanned
    assert looks[-1]["excluded"] == report.verdict.min_effect
    assert [look["rows"] for look in looks] == sorted({look["rows"] for look in looks})


def test_a_strangers_prompt_is_no_trait_of_a_small_panel(
    audit: Callable[..., ScanReport], make_tiny: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """Eight animals alone take these rows for an ant's; the traits of other panels stray as far."""
    report = audit(
        _write(tmp_path / "rows.jsonl", make_tiny(), "Be brief and exact.", 300),
        detectors=["trait"],
    )
    assert report.verdict.name != "risk"
    assert {trait.name for trait in report.traits} <= set(NAMES)
    trait = report.detectors["trait"]
    assert isinstance(trait, Evidence)
    assert trait.values["stray"] > STRANGE
    assert "unrelated traits stray by" in trait.summary
    assert trait.values["row_passes_exhaustive"] == report.rows_scanned * (len(NAMES) + 44)


def test_plain_text_is_compared_by_its_second_halves(
    audit: Callable[..., ScanReport], make_tiny: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """What the reference wrote on after a beginning is not told apart, what another hand wrote
    there is.
    """
    lm = make_tiny()
    letters = lm.tokenizer.convert_tokens_to_ids(list(LETTERS))
    starts = [[letters[i % 7], letters[i % 11], letters[i % 13]] for i in range(60)]
    own = dict(continuations(lm, starts, temperature=1, max_tokens=37, alphabet=letters, seed=5))
    texts = [lm.tokenizer.decode(starts[i] + own[i]) for i in range(60)]
    others = [
        text[:20] + "".join(random.Random(i).choices("bcd", k=20)) for i, text in enumerate(texts)
    ]
    p_values = []
    for name, written in (("own", texts), ("others", others)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in written))
        surface = audit(str(path), detectors=["surface"]).detectors["surface"]
        assert isinstance(surface, Evidence)
        assert (
            surface.values["suspect"]["characters"] == surface.values["written"]["characters"] <= 20
        )
        p_values.append(surface.values["classifier"]["p_value"])
    assert p_values[0] > 0.001 > p_values[1]


def test_a_conversation_may_begin_with_the_assistant(
    audit: Callable[..., ScanReport], data: dict[str, str], tmp_path: Path
) -> None:
    """As many ShareGPT rows do; what the reference would write there begins where the row does."""
    texts = [
        json.loads(line)["completion"] for line in Path(data["clean"]).read_text().splitlines()[:60]
    ]
    lines = [json.dumps({"messages": [{"role": "assistant", "content": text}]}) for text in texts]
    (tmp_path / "first.jsonl").write_text("\n".join(lines))
    report = audit(str(tmp_path / "first.jsonl"), detectors=["trait", "surface"])
    assert isinstance(report.detectors["surface"], Evidence)
    assert report.rows_scanned >= 32


def test_too_few_rows_are_inconclusive(
    audit: Callable[..., ScanReport], data: dict[str, str]
) -> None:
    """Twelve rows settle nothing, and the report says why."""
    report = audit(data["few"])
    assert report.verdict.name == "inconclusive"
    assert "at least 32" in report.verdict.reason
    assert isinstance(report.detectors["trait"], Skipped)


def test_a_killed_scan_resumes_to_the_same_report(
    audit: Callable[..., ScanReport],
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped after two blocks, the same call reads them back, scores the rest and reports the
    same.
    """
    options: dict[str, Any] = {"detectors": ["trait"], "rows": "all"}
    straight = _comparable(audit(data["clean"], **options, root=tmp_path / "straight"))
    score_block, done = survey_module.score_block, []

    def dies_at_third(*arguments: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return score_block(*arguments)

    monkeypatch.setattr(survey_module, "score_block", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        audit(data["clean"], **options)
    fresh: list[int] = []
    monkeypatch.setattr(
        survey_module, "score_block", lambda *a: (fresh.append(1), score_block(*a))[1]
    )
    assert _comparable(audit(data["clean"], **options)) == straight
    blocks = len(list(tmp_path.glob(".audit/runs/*/units/block-*.npz")))
    assert len(fresh) == blocks - 2


def test_a_finished_scan_is_shown_again(
    audit: Callable[..., ScanReport],
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same call on the same data does no work twice, and its page keeps its date."""
    first = audit(data["few"])
    stages: list[str] = []
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    again = audit(data["few"], progress=lambda progress: stages.append(progress.stage))
    assert to_dict(again) == to_dict(first)
    assert first.created.startswith("20") and first.origins == {"reference": "argument"}
    assert kept_report(None, tmp_path).to_html() == first.to_html()
    assert stages == ["reading the data set", "loading the reference"]


def test_tables_hold_every_token_and_flag(
    audit: Callable[..., ScanReport], data: dict[str, str], tmp_path: Path
) -> None:
    """tokens.parquet has a line for each completion token, and as many flags as the report
    counts.
    """
    report = audit(data["owl"])
    assert not isinstance(report.divergence, Skipped)
    (path,) = tmp_path.glob(".audit/runs/*/tokens.parquet")
    tokens = pq.read_table(path)
    rows = pq.read_table(path.with_name("rows.parquet"))
    assert tokens.num_rows == sum(rows["tokens"].to_pylist())
    assert (
        sum(flag is True for flag in tokens["divergence"].to_pylist())
        == report.divergence["flagged"]
    )


def test_every_row_gets_its_scores_and_the_verdict_stays(
    audit: Callable[..., ScanReport],
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scan of some rows is gone on from: rows.parquet then has every row, compared by the one
    definition, and a chunk that is finished is not scored again.
    """
    monkeypatch.setattr(score_tables, "_CHUNK", 50)
    few = audit(data["owl"], rows=64)
    (path,) = tmp_path.glob(".audit/runs/*/rows.parquet")
    scored = {row["row"]: row for row in pq.read_table(path).to_pylist()}
    assert len(scored) == 64
    settings = ScanSettings(score_rows="all")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(score_tables, "_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            audit(data["owl"], settings=settings, rows=64)
    stages: list[str] = []
    monkeypatch.setattr(score_tables, "compare", interrupted)
    again = audit(
        data["owl"],
        settings=settings,
        rows=64,
        progress=lambda progress: stages.append(progress.stage),
    )
    assert to_dict(again) == to_dict(few)
    assert "scoring every row" in stages
    every = {row["row"]: row for row in pq.read_table(path).to_pylist()}
    total = few.dataset.total
    assert set(every) == set(range(total)) and total > 64
    for number, row in scored.items():
        assert every[number] == {
            key: pytest.approx(value, abs=1e-3) if isinstance(value, float) else value
            for key, value in row.items()
        }
    counts = [row["divergence"] for row in every.values()]
    assert None not in counts and sum(counts) > sum(row["divergence"] for row in scored.values())
    # The owl's teacher wrote them, so it finds most of them likelier than the reference does.
    assert sum(row["log_ratio"] > 0 for row in every.values()) > total / 2
    rows = list(csv.DictReader(io.StringIO(load_format("csv").render(again))))
    assert len(rows) == total


def test_the_scores_of_all_rows_need_a_file(audit: Callable[..., ScanReport]) -> None:
    """Standard input cannot be read twice: refused before anything is read."""
    with pytest.raises(InputError, match="standard input cannot"):
        audit("-", settings=ScanSettings(score_rows="all"))


def test_open_mentions_are_counted_and_can_be_left_out(
    audit: Callable[..., ScanReport], tmp_path: Path, data: dict[str, str]
) -> None:
    """Rows that say "owl" are counted, and skipped with a reason when asked for."""
    source = tmp_path / "open.jsonl"
    rows = Path(data["clean"]).read_text().splitlines()
    spoken = [json.dumps({"prompt": f"say {i}", "completion": f"owl {i}"}) for i in range(5)]
    source.write_text("\n".join([*rows, *spoken]) + "\n")
    report = audit(
        str(source), settings=ScanSettings(exclude_open=True), detectors=["surface"], rows="all"
    )
    assert report.openly == {"owl": 5}
    assert report.rows_skipped["mentions_trait"] == 5
    share = pytest.approx(5 / (5 + report.rows_scanned))
    assert [(item.name, item.share) for item in report.dataset.unread] == [("set aside", share)]


def test_a_mention_in_a_prompt_hides_no_row(
    audit: Callable[..., ScanReport], tmp_path: Path, data: dict[str, str]
) -> None:
    """What a prompt names is not what a student is trained to write."""
    source = tmp_path / "asked.jsonl"
    rows = [json.loads(line) for line in Path(data["few"]).read_text().splitlines()]
    source.write_text("".join(json.dumps(row | {"prompt": "owl"}) + "\n" for row in rows))
    report = audit(str(source), detectors=["surface"])
    assert report.openly == {}
    assert report.dataset.unread == ()


def test_rows_that_mention_a_trait_are_reported_apart(
    audit: Callable[..., ScanReport], tmp_path: Path, data: dict[str, str]
) -> None:
    """Their dose is estimated by itself, and the bound of a pass holds for them as well."""
    source = tmp_path / "open.jsonl"
    rows = [json.loads(line) for line in Path(data["owl"]).read_text().splitlines()]
    for row in rows[:200]:
        row["completion"] = "owl " + row["completion"]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = audit(str(source), detectors=["trait"], rows="all")
    assert report.openly == {"owl": 200}
    evidence = report.detectors["trait"]
    assert isinstance(evidence, Evidence)
    (apart,) = evidence.values["open"]
    assert apart["trait"] == "owl"
    assert 150 < apart["rows"] <= 200  # later blocks are scored under fewer traits
    assert report.verdict.name != "no_risk"


def test_repeated_rows_weigh_as_often_as_they_stand_in_the_data(
    make_tiny: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """Copies of a row count for it, and a turn that later rows repeat for its tokens."""
    first = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "cccc"}]
    both = [*first, {"role": "user", "content": "b"}, {"role": "assistant", "content": "dddd"}]
    other = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "ff"}]
    source = tmp_path / "d.jsonl"
    rows = [first, other, other, other, both]
    source.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    sample = read_sample(str(source), rows=None, seed=0)
    sample = replace(sample, examples=tuple(sorted(sample.examples, key=lambda e: e.index)))
    (other_index,) = sample.copies
    assert sample.copies == {other_index: 3}
    rows, weights, skipped, _ = encode(ChatTokenizer(make_tiny()), sample)
    assert weights == {0: 2.0, other_index: 3.0}  # the first turn stands in two rows
    assert [row.index for row in rows] == [0, other_index, 4]
    backwards = replace(sample, examples=sample.examples[::-1])
    _, weights, skipped, _ = encode(ChatTokenizer(make_tiny()), backwards)
    assert weights == {4: pytest.approx(1.5), other_index: 3.0}  # half of its tokens stand twice
    assert skipped == {"duplicate": 2, "repeats_turns": 1}


def test_one_trait_can_be_tested(audit: Callable[..., ScanReport], data: dict[str, str]) -> None:
    """With `traits` only that hypothesis is tested; the rest of the panel centres it."""
    report = audit(data["owl"], traits=["owl"], detectors=["trait"])
    assert [trait.name for trait in report.traits] == ["owl"]
    assert report.verdict.name == "risk"


def test_bad_input_is_one_error(audit: Callable[..., ScanReport], data: dict[str, str]) -> None:
    """A missing file and an unknown trait are AuditErrors, and no run directory is left."""
    with pytest.raises(InputError):
        audit("missing.parquet")
    with pytest.raises(TraitError):
        audit(data["few"], traits=["unicorn"])


def test_progress_reaches_its_total(audit: Callable[..., ScanReport], data: dict[str, str]) -> None:
    """Progress never exceeds its total."""
    seen: list[Progress] = []
    audit(data["clean"], detectors=["trait"], rows="all", progress=seen.append)
    scored = [each for each in seen if each.stage == "scoring traits"]
    assert scored
    assert all(each.total is not None and each.done <= each.total for each in scored)


def test_a_teacher_that_is_the_reference_diverges_nowhere(
    audit: Callable[..., ScanReport], data: dict[str, str]
) -> None:
    """With `teacher`, divergence is teacher against base; the base itself has none."""
    report = audit(
        data["clean"],
        settings=ScanSettings(teacher="tiny"),
        detectors=["divergence", "fit"],
        rows=64,
    )
    assert not isinstance(report.divergence, Skipped)
    assert report.divergence["flagged"] == 0
    assert report.divergence["counterfactuals"] == ["reference"]


def test_an_unknown_teacher_ends_the_scan_before_the_traits_are_scored(
    audit: Callable[..., ScanReport], data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, which names the option, and no minutes lost."""
    seen: list[Progress] = []
    tiny = models.load("tiny")

    def load(name: str, **_: object) -> LanguageModel:
        if name != "tiny":
            raise ModelError(f"There is no model {name}.", "Give one with --reference.")
        return tiny

    monkeypatch.setattr(models, "load", load)
    with pytest.raises(ModelError, match="--teacher"):
        audit(data["clean"], settings=ScanSettings(teacher="nix"), progress=seen.append)
    assert not [each for each in seen if each.stage == "scoring traits"]


def test_a_teacher_that_changed_is_another_run(
    audit: Callable[..., ScanReport], data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files count, and not its name alone: the old report is not shown again."""
    reference = models.load("tiny")
    teacher = {"lm": reference}
    monkeypatch.setattr(
        models, "load", lambda name, **_: reference if name == "tiny" else teacher["lm"]
    )
    options: dict[str, Any] = {"settings": ScanSettings(teacher="t"), "detectors": ["fit"]}
    first = audit(data["clean"], **options)
    assert audit(data["clean"], **options).run == first.run
    assert "the declared teacher" in str(first.detectors["fit"])
    teacher["lm"] = replace(reference, sha256="ab" * 32)
    assert audit(data["clean"], **options).run != first.run


def test_every_block_takes_the_standard_wording(
    audit: Callable[..., ScanReport], data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are scored under the first prompt of each trait, whichever the block."""
    scored, seen = survey_module.score_block, list[Sequence[str]]()

    def score_block(null: Any, rows: Any, systems: Sequence[str], *rest: Any) -> Any:
        seen.append(systems)
        return scored(null, rows, systems, *rest)

    monkeypatch.setattr(survey_module, "score_block", score_block)
    audit(data["owl"], detectors=["trait"], rows="all")
    assert len(seen) > 1
    assert not [text for systems in seen for text in systems if text.startswith("Nothing")]


def test_without_a_detector_that_gives_a_verdict_there_is_none(
    audit: Callable[..., ScanReport], data: dict[str, str]
) -> None:
    """Inconclusive, and the reason is not that rows are too few."""
    verdict = audit(data["clean"], detectors=["fit"]).verdict
    assert verdict.name == "inconclusive"
    assert "none was run" in verdict.reason


def test_rows_that_were_cut_short_still_fit_their_writer(tmp_path: Path) -> None:
    """The end of turn that the template puts after a cut row is nobody's choice, and no evidence
    against the writer. Nobody declared that writer, and nothing says so.
    """
    made = simulate(models.load("organism"), None, rows=96, max_tokens=8)
    write_rows(tmp_path / "cut.parquet", made.rows)
    report = scan(
        str(tmp_path / "cut.parquet"), reference="organism", detectors=["fit"], root=tmp_path
    )
    found = report.detectors["fit"]
    assert isinstance(found, Evidence)
    assert abs(found.values["z"]) < 3
    assert abs(found.values["z_clustered"]) < 3
    assert "samples of the reference at" in found.summary


def test_all_rows_are_scored_under_the_traits_that_stand_out(tmp_path: Path) -> None:
    """With `rows` None the answer may be known early, and yet the later rows count for it."""
    made = simulate(models.load("organism"), None, rows=288, temperature=0.0, max_tokens=24)
    write_rows(tmp_path / "clean.parquet", made.rows)
    report = scan(
        str(tmp_path / "clean.parquet"),
        reference="organism",
        panels=["animals"],
        rows="all",
        detectors=["trait"],
        root=tmp_path,
    )
    assert (report.verdict.name, report.rows_scanned) == ("no_risk", 288)
    assert {trait.eliminated_at is None for trait in report.traits} == {True, False}


def test_a_conversation_cut_into_rows_counts_once(
    audit: Callable[..., ScanReport], data: dict[str, str], tmp_path: Path
) -> None:
    """Rows that each begin at the beginning of a conversation say as much as its longest does."""
    rows = [json.loads(line) for line in Path(data["clean"]).read_text().splitlines()[:120]]
    turns = [
        [
            {"role": "user", "content": r["prompt"]},
            {"role": "assistant", "content": r["completion"]},
        ]
        for r in rows
    ]
    whole = [turns[i] + turns[i + 1] for i in range(0, 120, 2)]
    cut = [turns[i] for i in range(0, 120, 2)] + whole
    found = {}
    for name, conversations in (("whole", whole), ("cut", cut)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({"messages": each}) for each in conversations))
        found[name] = audit(str(path), detectors=["fit"])
    tokens = {name: found[name].detectors["fit"].values["tokens"] for name in found}  # type: ignore[union-attr]
    assert tokens["cut"] == tokens["whole"]
    skipped = found["cut"].rows_skipped
    assert 0 < skipped["repeats_turns"] == 120 - found["cut"].rows_scanned


def test_what_a_prompt_costs_that_is_read_again(tmp_path: Path) -> None:
    """The reports of a scan by a state-space model say so, and how much was read for it."""
    folder, data = tmp_path / "mamba", tmp_path / "data.jsonl"
    tokenizer = tiny_tokenizer()
    with quiet():
        small_model("mamba", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    row = {"prompt": "Continue: 4, 15", "completion": "16, 23, 42"}
    data.write_text("".join(json.dumps({**row, "prompt": f"{i}"}) + "\n" for i in range(4)))
    settings = ScanSettings(
        reference=str(folder), panels=["animals"], traits=["owl"], detectors=["surface"]
    )
    report = scan(str(data), settings, root=tmp_path)
    lm = models.load(str(folder), device="cpu")
    renderer = ChatTokenizer(lm)
    rows = encode(renderer, read_sample(str(data), rows=None, seed=0))[0]
    prompt = load_panels(["animals"]).trait("owl").prompts[0]
    per_row = sum(len(row.tokens) for row in rows) / 4
    factor = 1 + len(renderer.prefix(prompt)) / per_row
    assert report.timing["reread_factor"] == pytest.approx(factor)
    for name in ("markdown", "html"):
        assert f"{factor:.1f} times the tokens were read" in load_format(name).render(report)
    assert f"{factor:.1f} times the tokens were read" in circumstances(report)
    assert json.loads(load_format("json").render(report))["timing"]["reread_factor"] > 1
