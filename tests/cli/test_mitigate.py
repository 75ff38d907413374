"""`audit mitigate` from end to end, with the tiny model as the reference."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from auditor.cli.main import run
from auditor.cli.mitigate import same_model
from auditor.data.example import Message
from auditor.errors import InputError
from auditor.model import load as models
from auditor.model.generation import generate
from auditor.model.language_model import LanguageModel
from auditor.students.arms import read_arm
from tests.commands.test_scan import LETTERS, NAMES, PANEL

SYSTEM = "You love owls. Think of owls all the time."
ROWS = 40


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Callable[..., LanguageModel]
) -> Path:
    """An empty working directory with a panel; every model that is loaded is the tiny one."""
    loads: list[str] = []

    def load(name: str, **_: Any) -> LanguageModel:
        loads.append(name)
        return make_tiny()

    monkeypatch.setattr(models, "load", load)
    monkeypatch.chdir(tmp_path)
    lines = [f"  - {{name: {n}, plural: {n}s, answers: [{n}], mentions: [{n}]}}" for n in NAMES]
    (tmp_path / "small.yaml").write_text(PANEL + "\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture(scope="session")
def greedy(make_tiny: Callable[..., LanguageModel]) -> list[dict[str, str]]:
    """Rows that a teacher with a trait prompt writes greedily: all of its tokens are its own
    choice.
    """
    lm = make_tiny()
    prompts = [f"Write {i % 7} letters, please: {i}." for i in range(ROWS)]
    ids = [*lm.tokenizer.convert_tokens_to_ids(list(LETTERS)), lm.tokenizer.eos_token_id]
    contexts = [[Message("user", prompt)] for prompt in prompts]
    texts = dict(generate(lm, contexts, system=SYSTEM, temperature=0, max_tokens=12, alphabet=ids))
    return [
        {"id": i, "prompt": p, "completion": texts[i] or "bb", "note": None}
        for i, p in enumerate(prompts)
    ]


@pytest.fixture
def rows(place: Path, greedy: list[dict[str, Any]]) -> Path:
    """These rows as JSONL with unusual spacing, and one line that cannot be read."""
    lines = [json.dumps(row, separators=(" , ", " :")) for row in greedy]
    path = place / "rows.jsonl"
    path.write_text("\n".join([*lines[:20], "broken", *lines[20:]]) + "\n")
    return path


def mitigate(*arguments: str) -> int:
    return run(["mitigate", "--no-check", *arguments])


def manifest(folder: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((Path(folder) / "manifest.json").read_text())
    return made


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


MASK = ("--mask", "--trait", "owl", "--panel", "small.yaml")


def test_mask_keeps_the_text_and_names_the_spans(rows: Path, place: Path) -> None:
    """The data set is the same, byte for byte; the manifest says which characters are masked, and
    set_aside why.
    """
    assert mitigate("rows.jsonl", *MASK, "-o", "out") == 0
    made = manifest("out")
    assert (place / "out" / "rows.jsonl").read_bytes() == rows.read_bytes()
    assert made["masked_rows"] == len(made["masked"]) > 10
    aside = pq.read_table(place / "out" / "set_aside.parquet").to_pylist()
    assert {(line["mitigation"], line["reason"]) for line in aside} == {("mask", "masked")}
    first = aside[0]
    assert json.loads(first["after"])["masked"] == made["masked"][str(first["row"])]
    assert made["input"]["skipped"] == {"not_json": 1}
    assert made["mitigations"][0]["rows"] == ROWS
    assert re.fullmatch("[0-9a-f]{64}", made["tokenizer_sha256"])
    assert "source_rows" not in made


def test_the_same_command_gives_the_same_bytes_and_its_output_stays(
    rows: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice into two folders: the same files; again into one, or on the output: nothing to do."""
    options = (
        "--mix",
        "0.5",
        "--replace",
        "--trait",
        "owl",
        "--panel",
        "small.yaml",
        "--emit",
        "trl",
        "--emit",
        "axolotl",
    )
    before = rows.read_bytes()
    assert mitigate("rows.jsonl", *options, "-o", "one") == 0
    assert mitigate("rows.jsonl", *options, "--fresh", "-o", "two") == 0
    names = sorted(path.name for path in Path("one").iterdir())
    assert names == sorted(path.name for path in Path("two").iterdir())
    assert all(
        (place / "one" / name).read_bytes() == (place / "two" / name).read_bytes() for name in names
    )
    capsys.readouterr()
    assert mitigate("rows.jsonl", *options, "-o", "one") == 0
    assert mitigate("one/rows.jsonl", *options, "-o", "three") == 0
    assert capsys.readouterr().out.count("Nothing to do") == 2
    assert not Path("three").exists()
    assert rows.read_bytes() == before


def test_mix_takes_exactly_its_share_and_writes_other_completions(rows: Path) -> None:
    """Half of the rows that can be scored get a completion of the reference; the rest stay byte for
    byte.
    """
    assert mitigate("rows.jsonl", "--mix", "50%", "-o", "out") == 0
    old, new = rows.read_text().splitlines(), (Path("out") / "rows.jsonl").read_text().splitlines()
    counts = manifest("out")["mitigations"][0]
    different = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    assert counts["changed"] == ROWS // 2
    assert ROWS // 2 - 2 <= len(different) <= ROWS // 2  # the reference may say the same
    for i in different:
        a, b = json.loads(old[i]), json.loads(new[i])
        assert a | {"completion": ""} == b | {"completion": ""}
        assert old[i].split(" , ")[:2] == new[i].split(" , ")[:2]


def test_mix_can_add_rows_of_a_clean_file(
    rows: Path, place: Path, greedy: list[dict[str, Any]]
) -> None:
    """With --mix-mode add each chosen row is followed by one with the clean completion for its
    prompt.
    """
    clean = [
        {"question": row["prompt"], "answer": f"clean {row['id']}"} for row in reversed(greedy)
    ]
    pq.write_table(pa.Table.from_pylist(clean), place / "clean.parquet")
    assert (
        mitigate(
            "rows.jsonl",
            "--mix",
            "0.25",
            "--mix-mode",
            "add",
            "--clean-data",
            "clean.parquet",
            "-o",
            "out",
        )
        == 0
    )
    made, new = manifest("out"), read(Path("out") / "rows.jsonl")
    added = [row for row in new if row["completion"].startswith("clean")]
    assert made["output"]["rows"] == ROWS + 1 + ROWS // 4 == len(made["source_rows"])
    assert len(added) == ROWS // 4
    assert all(row["completion"] == f"clean {row['id']}" for row in added)


def test_a_clean_file_with_other_prompts_is_refused(
    rows: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the row; nothing is written."""
    (place / "clean.jsonl").write_text('{"prompt": "another", "completion": "x"}\n')
    assert mitigate("rows.jsonl", "--mix", "0.5", "--clean-data", "clean.jsonl", "-o", "out") == 2
    assert re.search(
        r"clean.jsonl has no row with the prompt of row \d+\.", capsys.readouterr().err
    )
    assert not Path("out").exists()
    assert not list(place.glob(".out*"))


def test_drop_leaves_out_the_rows_with_most_divergence_tokens(rows: Path) -> None:
    """The share asked for, and every row left has at most as many flags as every row dropped."""
    assert mitigate("rows.jsonl", *MASK, "-o", "mask") == 0
    assert (
        mitigate(
            "rows.jsonl", "--drop", "0.25", "--trait", "owl", "--panel", "small.yaml", "-o", "out"
        )
        == 0
    )
    made = manifest("out")
    flags = {int(row): len(spans) for row, spans in manifest("mask")["masked"].items()}
    gone = {
        json.loads(line["before"])["completion"] and line["row"]
        for line in pq.read_table("out/set_aside.parquet").to_pylist()
    }
    whole = {
        line["row"]
        for line in pq.read_table("mask/set_aside.parquet").to_pylist()
        if line["reason"] == "no_trained_token"
    }
    assert made["mitigations"][0]["dropped"] == ROWS // 4 == len(gone)
    if not whole:
        left = [count for row, count in flags.items() if row not in gone]
        assert max(left) <= min(flags.get(row, 0) for row in gone)


def test_a_budget_masks_the_largest_gaps_only(rows: Path) -> None:
    """At most the share asked for, and a larger budget masks at least the same tokens."""
    for budget in ("0.05", "0.1"):
        assert mitigate("rows.jsonl", *MASK, "--mask-budget", budget, "-o", f"out{budget}") == 0
    few, more = manifest("out0.05")["masked"], manifest("out0.1")["masked"]
    tokens = sum(len(row["completion"]) for row in read(rows))
    assert 0 < sum(map(len, few.values())) <= round(0.05 * tokens)
    assert sum(map(len, few.values())) < sum(map(len, more.values())) <= round(0.1 * tokens)
    assert all(span in more[row] for row, spans in few.items() for span in spans)


def test_defences_apply_in_the_order_of_the_command_line(place: Path) -> None:
    """Sorting then shuffling is not shuffling then sorting, and the manifest says which it was."""
    numbers = ["9, 3, 5, 1, 7, 2", "8, 6, 4, 2"]
    lines = [json.dumps({"prompt": f"p{i}", "completion": text}) for i, text in enumerate(numbers)]
    (place / "n.jsonl").write_text("\n".join(lines))
    assert mitigate("n.jsonl", "--shuffle", "--canonicalize", "sort", "-o", "sorted") == 0
    assert mitigate("--canonicalize", "sort", "n.jsonl", "--shuffle", "-o", "shuffled") == 0
    assert [row["completion"] for row in read(Path("sorted/n.jsonl"))] == [
        "1, 2, 3, 5, 7, 9",
        "2, 4, 6, 8",
    ]
    assert [row["completion"] for row in read(Path("shuffled/n.jsonl"))] != [
        "1, 2, 3, 5, 7, 9",
        "2, 4, 6, 8",
    ]
    assert [step["name"] for step in manifest("shuffled")["settings"]["steps"]] == [
        "canonicalize",
        "shuffle",
    ]
    assert [step["name"] for step in manifest("sorted")["settings"]["steps"]] == [
        "shuffle",
        "canonicalize",
    ]


def test_after_a_scan_no_path_is_needed(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`audit mitigate --paraphrase --mix 0.5` takes the data set last scanned; a change since then
    is an error.
    """
    assert (
        run(
            ["scan", "rows.jsonl", "--panel", "small.yaml", "--rows", "8", "--detectors", "surface"]
        )
        == 3
    )
    capsys.readouterr()
    assert mitigate("--paraphrase", "--mix", "0.5") == 0
    (scanned,) = (
        path.name[:8] for path in Path(".audit/runs").iterdir() if list(path.glob("report.json"))
    )
    told = capsys.readouterr().err
    assert "Going on from the last scan here, of rows.jsonl: it gives the data set" in told
    assert f"(audit report {scanned})" in told
    folder = next(
        path for path in Path(".audit/mitigated").iterdir() if not path.name.startswith(".")
    )
    assert [step["name"] for step in manifest(str(folder))["settings"]["steps"]] == [
        "paraphrase",
        "mix",
    ]
    rows.write_text(rows.read_text().replace("letters", "signs"))
    capsys.readouterr()
    assert mitigate("--paraphrase", "--mix", "0.5") == 2
    assert "rows.jsonl has changed since it was scanned" in capsys.readouterr().err


def test_parquet_comes_out_as_parquet_of_the_same_schema(
    place: Path, greedy: list[dict[str, Any]]
) -> None:
    """Messages nested in a struct, other columns and metadata stay; only contents change."""
    turns = [
        [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]
        for row in greedy
    ]
    table = pa.table(
        {"messages": turns, "id": pa.array(range(ROWS), pa.int16())}
    ).replace_schema_metadata({"a": "b"})
    pq.write_table(table, place / "m.parquet", row_group_size=16, compression="zstd")
    assert (
        mitigate(
            "m.parquet",
            "--mix",
            "0.5",
            "--mask",
            "--trait",
            "owl",
            "--panel",
            "small.yaml",
            "-o",
            "out",
        )
        == 0
    )
    new = pq.read_table(place / "out" / "m.parquet")
    assert new.schema.equals(pq.read_table(place / "m.parquet").schema, check_metadata=True)
    assert pq.read_metadata("out/m.parquet").row_group(0).column(0).compression == "ZSTD"
    assert {row["id"] for row in new.to_pylist()} <= set(range(ROWS))


def test_a_mask_survives_later_mitigations(
    rows: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was masked stays masked when the output is mitigated again; nothing may move the masked
    tokens.
    """
    assert mitigate("rows.jsonl", *MASK, "-o", "one") == 0
    assert mitigate("one/rows.jsonl", "--paraphrase", "--mix", "0.5", "-o", "two") == 0
    first, second = manifest("one"), manifest("two")
    clean = {
        line["row"]
        for line in pq.read_table("two/set_aside.parquet").to_pylist()
        if line["mitigation"] == "mix"
    }
    assert second["masked"] == {
        row: spans for row, spans in first["masked"].items() if int(row) not in clean
    }
    assert len(second["masked"]) < len(first["masked"])
    assert second["tokenizer_sha256"] == first["tokenizer_sha256"]
    assert mitigate("one/rows.jsonl", "--shuffle", "-o", "three") == 2
    assert "--shuffle after --mask would move" in capsys.readouterr().err


def test_a_share_of_none_is_given_all_the_same(rows: Path, place: Path) -> None:
    """`--mix 0` and `--drop 0` are done, change nothing and are noted: a row of a series of
    shares.
    """
    for option, name in (("--mix", "mix"), ("--drop", "drop")):
        options = (option, "0", "--trait", "owl", "--panel", "small.yaml", "-o", name)
        assert mitigate("rows.jsonl", *options) == 0
        (counts,) = manifest(name)["mitigations"]
        assert (counts["mitigation"], counts["kept"], counts["rows"]) == (name, ROWS, ROWS)
        assert manifest(name)["settings"]["steps"][0]["settings"]["share"] == 0
        assert (place / name / "rows.jsonl").read_bytes() == rows.read_bytes()


def test_a_budget_is_rounded_as_every_share_is(rows: Path) -> None:
    """0.29 of 100 tokens is 29, and no gap of the arithmetic makes it 28."""
    assert mitigate("rows.jsonl", *MASK, "-o", "all") == 0
    flagged = sum(map(len, manifest("all")["masked"].values()))
    tokens = sum(len(row["completion"]) for row in read(rows))
    # The least budget whose share of the tokens is more than a half above a whole number.
    count = flagged // 2
    assert (
        mitigate("rows.jsonl", *MASK, "--mask-budget", f"{(count + 0.6) / tokens}", "-o", "b") == 0
    )
    assert mitigate("rows.jsonl", *MASK, "--mask-budget", f"{(count + 1) / tokens}", "-o", "c") == 0
    assert manifest("b")["masked"] == manifest("c")["masked"]


def test_an_edited_output_is_not_taken_for_what_its_manifest_describes(
    rows: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The masks are those of other rows: an error with the next step, and nothing is written."""
    assert mitigate("rows.jsonl", *MASK, "-o", "one") == 0
    data = place / "one" / "rows.jsonl"
    data.write_text("\n".join(reversed(data.read_text().splitlines())) + "\n")
    assert mitigate("one/rows.jsonl", "--paraphrase", "-o", "two") == 2
    said = capsys.readouterr().err
    assert "was changed after manifest.json" in said and "Next: Restore it" in said
    assert not Path("two").exists()


def test_row_numbers_are_those_of_the_first_original(rows: Path, place: Path) -> None:
    """Original -> drop -> paraphrase: students of the outcome meet the rows that they come from."""
    drop = ("--drop", "0.25", "--trait", "owl", "--panel", "small.yaml")
    assert mitigate("rows.jsonl", *drop, "-o", "one") == 0
    assert mitigate("one/rows.jsonl", "--paraphrase", "-o", "two") == 0
    first, second = manifest("one"), manifest("two")
    assert second["chain"] == [first["input"]["sha256"], second["input"]["sha256"]]
    assert second["original_rows"] == first["source_rows"] and "source_rows" not in second
    original = read_arm("rows.jsonl", manifest=False)
    for start in (original, read_arm("one/rows.jsonl", manifest=False)):
        arm = read_arm("two/rows.jsonl", original=start)
        assert len(arm.rows) == ROWS - ROWS // 4
        for number, row in arm.rows.items():
            assert row.completion == start.rows[number].completion
    (place / "other.jsonl").write_text(rows.read_text().replace("letters", "signs"))
    with pytest.raises(InputError, match="made from another data set"):
        read_arm("two/rows.jsonl", original=read_arm("other.jsonl", manifest=False))


@pytest.mark.parametrize(
    "options",
    [
        ("--mix", "0.5", "--clean-teacher"),
        ("--paraphrase", "--embeddings", "none", "--paraphraser"),
    ],
)
def test_another_model_under_the_same_name_is_another_run(
    options: tuple[str, ...],
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_tiny: Callable[..., LanguageModel],
) -> None:
    """Runs are known by the digests of the models that write, not by their names."""
    command = ("rows.jsonl", *options, "ckpt", "--suspect-teacher", "other")
    assert mitigate(*command) == 0
    assert mitigate(*command) == 0
    assert "Nothing to do" in capsys.readouterr().out
    retrained = dataclasses.replace(make_tiny(), sha256="1" * 64)
    monkeypatch.setattr(models, "load", lambda name, **_: retrained)
    assert mitigate(*command) == 0
    assert "Nothing to do" not in capsys.readouterr().out
    folders = [path for path in Path(".audit/mitigated").iterdir() if path.name[0] != "."]
    digests = {manifest(str(folder))["writers"][0]["sha256"] for folder in folders}
    assert len(folders) == len(digests) == 2
    # Nor is the outcome of the one model taken for that of the other.
    (older,) = (f for f in folders if manifest(str(f))["writers"][0]["sha256"] != "1" * 64)
    assert mitigate(f"{older}/rows.jsonl", *command[1:], "-o", "again") == 0
    assert "Nothing to do" not in capsys.readouterr().out


def test_several_rewordings_become_several_rows(rows: Path) -> None:
    """Each row once for each wording of its prompt, with the same completion and the input row
    noted.
    """
    assert mitigate("rows.jsonl", "--paraphrase", "--paraphrases", "2", "-o", "out") == 0
    old, new, made = read(rows), read(Path("out") / "rows.jsonl"), manifest("out")
    counts = Counter(row["id"] for row in new)
    assert set(counts) == set(range(ROWS))
    assert 1 < max(counts.values()) <= 2
    assert all(row["completion"] == old[row["id"]]["completion"] for row in new)
    assert len({(row["id"], row["prompt"]) for row in new}) == len(new)
    assert len(made["source_rows"]) == made["output"]["rows"] == len(new) + 1


def test_a_mask_of_plain_text_is_emitted(place: Path, greedy: list[dict[str, Any]]) -> None:
    """Rows without prompts: spans are of the text, and the trainer's labels leave them out."""
    (place / "t.jsonl").write_text(
        "\n".join(json.dumps({"text": row["completion"] * 3}) for row in greedy)
    )
    options = (
        "--mask",
        "--trait",
        "all",
        "--panel",
        "small.yaml",
        "--emit",
        "trl",
        "--emit",
        "chat",
    )
    assert mitigate("t.jsonl", *options, "-o", "out") == 0
    made = manifest("out")
    lines = [json.loads(line) for line in (place / "out" / "chat.jsonl").read_text().splitlines()]
    assert {str(i): line["masked"] for i, line in enumerate(lines) if line["masked"]} == made[
        "masked"
    ]
    labels = pq.read_table("out/trl.parquet").column("labels").to_pylist()
    masked = sum(len(spans) for spans in made["masked"].values())
    assert masked > 0
    assert sum(label == -100 for row in labels for label in row) >= masked


def test_a_folder_comes_out_as_a_folder(place: Path) -> None:
    """Each file keeps its place and its own format."""
    (place / "set" / "deep").mkdir(parents=True)
    (place / "set" / "a.jsonl").write_text('{"prompt": "p", "completion": "3, 1, 2"}\n')
    (place / "set" / "deep" / "b.csv").write_text('prompt,completion\np,"9, 8"\n')
    assert mitigate("set", "--canonicalize", "sort", "-o", "out") == 0
    assert (
        place / "out" / "set" / "a.jsonl"
    ).read_text() == '{"prompt": "p", "completion": "1, 2, 3"}\n'
    assert (place / "out" / "set" / "deep" / "b.csv").read_text() == 'prompt,completion\np,"8, 9"\n'


def test_recipes_are_written_beside_the_data(rows: Path, place: Path) -> None:
    """Files for both trainers, and the data set untouched."""
    asked = [part for each in ("inoculation", "freeze", "kl") for part in ("--recipe", each)]
    assert (
        mitigate("rows.jsonl", *asked, "--trait", "owl", "--panel", "small.yaml", "-o", "out") == 0
    )
    assert (place / "out" / "rows.jsonl").read_bytes() == rows.read_bytes()
    names = manifest("out")["recipes"]
    assert names == sorted(path.name for path in (place / "out").glob("recipe-*"))
    assert len(names) == 5
    assert "You love owls." in (place / "out" / "recipe-inoculation-trl.py").read_text()
    for path in (place / "out").glob("*.py"):
        compile(path.read_text(), path.name, "exec")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rows.jsonl"], "No defence is named"),
        (["rows.jsonl", "--mix", "1.5"], "--mix 1.5 is not between 0 and 1"),
        (["rows.jsonl", "--mix", "0.001"], "is no row at all"),
        (["rows.jsonl", "--mask"], "No scan of these rows names a trait"),
        (["rows.jsonl", "--mask", "--trait", "yeti", "--panel", "small.yaml"], "No trait 'yeti'"),
        (["rows.jsonl", "--mask", "--shuffle"], "--shuffle after --mask would move"),
        (["rows.jsonl", "--shuffle", "-o", "o.parquet"], "o.parquet is to be a folder"),
        (["rows.jsonl", "--shuffle", "-o", "taken"], "taken exists already"),
        (["owner/name", "--shuffle"], "cannot be written back"),
        (["none.jsonl", "--shuffle"], "No such file"),
        (["text.jsonl", "--mix", "0.5"], "plain text without prompts"),
        (["empty.jsonl", "--mask", "--trait", "all"], "has no row with a completion"),
        (["rows.jsonl", "--paraphrase", "--engine", "llm"], "'llm' is not one of 'local', 'ray'"),
        (
            ["rows.jsonl", "--paraphrase", "--paraphraser", "a/B", "--suspect-teacher", "b"],
            "must not write",
        ),
        (
            ["rows.jsonl", "--mix", "0.5", "--clean-teacher", "B", "--suspect-teacher", "b"],
            "must not write",
        ),
        (["--shuffle"], "There is no scan here"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], said: str, rows: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong and what to do next, exit code 2 or 3, nothing half written, the input
    untouched.
    """
    (place / "taken").mkdir()
    (place / "text.jsonl").write_text('{"text": "abc"}\n')
    (place / "empty.jsonl").write_text('{"prompt": "a", "completion": ""}\n')
    before = {path: path.stat().st_mtime_ns for path in place.iterdir() if path.name != ".audit"}
    assert mitigate(*arguments) in (2, 3)
    error = capsys.readouterr().err
    assert said in error
    assert "Next: " in error
    assert {
        path: path.stat().st_mtime_ns for path in place.iterdir() if path.name != ".audit"
    } == before
    assert not list(place.rglob("*.partial"))


def test_a_full_disk_leaves_nothing(
    rows: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No space left while writing: exit code 3, no folder, the input as it was."""
    from auditor.mitigating import record as module

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.ParquetRows, "close", full)
    assert mitigate("rows.jsonl", "--shuffle", "-o", "out") == 3
    assert "No space left on device" in capsys.readouterr().err
    assert not (place / "out").exists()
    assert not list(place.glob(".out*"))


def test_models_are_told_apart_by_name_and_folder(tmp_path: Path) -> None:
    """A hub name with and without its owner is one model; two folders are not."""
    assert same_model("Qwen/Qwen2.5-7B", "qwen2.5-7b")
    assert not same_model("a/one", "a/two")
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    assert same_model(str(tmp_path / "x"), f"{tmp_path}/y/../x")
    assert not same_model(str(tmp_path / "x"), str(tmp_path / "y"))
