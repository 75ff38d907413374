"""What trainers are given is what they train on: labels worked out by hand, and by the installed
TRL.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from auditor.data.text_row import Field, Span, TextRow
from auditor.mitigating.trainer_files import IGNORED, Emitter, tokenised
from auditor.model.language_model import LanguageModel
from auditor.model.tokenization import ChatTokenizer
from tests.support.examples import blocks

LONG = "x" * 2000


def chat(*turns: str, masked: tuple[Span, ...] = (), index: int = 0) -> TextRow:
    """User and assistant in turn."""
    roles = ("user", "assistant") * len(turns)
    fields = tuple(
        Field(("m", i), role, text)
        for i, (role, text) in enumerate(zip(roles, turns, strict=False))
    )
    return TextRow(index, fields, 0, masked)


def trained(lm: LanguageModel, row: TextRow) -> str:
    """The text of the tokens with a label, each in brackets."""
    found = tokenised(lm, ChatTokenizer(lm), row)
    assert not isinstance(found, str)
    ids, labels = found
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    return "".join(f"[{lm.tokenizer.decode([label])}]" for label in labels if label != IGNORED)


def test_labels_are_the_completion_and_its_end(tiny: LanguageModel) -> None:
    """Prompts have no label; the end of each turn has one; masked characters and no others are left
    out.
    """
    assert trained(tiny, chat("q", "12 an")) == "[12][ ][an][<|im_end|>]"
    assert trained(tiny, chat("q", "12 an", masked=((0, 0, 1),))) == "[ ][an][<|im_end|>]"
    assert trained(tiny, chat("q", "12 an", masked=((0, 2, 3), (0, 3, 5)))) == "[12][<|im_end|>]"
    assert (
        trained(tiny, chat("q", "a", "r", "b", masked=((1, 0, 1),)))
        == "[a][<|im_end|>][<|im_end|>]"
    )


def test_input_is_the_template_and_ends_where_the_last_turn_ends(tiny: LanguageModel) -> None:
    """The tokens are those of the rendered chat, up to the end of the last completion."""
    found = tokenised(tiny, ChatTokenizer(tiny), chat("q", "ab"))
    assert not isinstance(found, str)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ab"}]
    whole = tiny.tokenizer(
        tiny.tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False
    ).input_ids
    assert found[0] == whole[: len(found[0])]
    assert tiny.tokenizer.decode(whole[len(found[0]) :]) == "\n"


def test_plain_text_gets_an_end(tiny: LanguageModel) -> None:
    """No template ends it, so the end-of-sequence token is added and trained."""
    row = TextRow(0, (Field(("text",), "text", "an a"),), 0, ((0, 0, 2),))
    assert trained(tiny, row) == "[ ][a][<|im_end|>]"


def test_a_row_that_cannot_be_encoded_has_a_reason(tiny: LanguageModel) -> None:
    """As in a scan."""
    assert tokenised(tiny, ChatTokenizer(tiny), chat("q", LONG)) == "longer_than_context"


ROWS = [
    chat("one", "12 an", masked=((0, 0, 2),)),
    chat("two", "the owl", "and", "a 12", masked=((0, 3, 7), (1, 0, 1))),
    chat("three", "7"),
    chat("four", LONG),
]


@pytest.fixture
def emitted(tmp_path: Path, tiny: LanguageModel) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The rows in every format."""
    emitter = Emitter(
        tmp_path, ("trl", "axolotl", "chat"), (tiny, ChatTokenizer(tiny)), max_length=60
    )
    for row in ROWS:
        emitter.add(row)
    return tmp_path, emitter.close()


def test_formats_have_exactly_the_columns_of_their_trainer(
    emitted: tuple[Path, dict[str, dict[str, Any]]], tiny: LanguageModel
) -> None:
    """Columns, lengths and counts; the same labels for both; Axolotl's file is named by its
    content.
    """
    folder, counts = emitted
    trl = pq.read_table(folder / counts["trl"]["file"]).to_pylist()
    axolotl = pq.read_table(folder / counts["axolotl"]["file"]).to_pylist()
    assert [list(row) for row in trl] == [["input_ids", "labels", "assistant_masks"]] * 3
    assert [list(row) for row in axolotl] == [["input_ids", "attention_mask", "labels"]] * 3
    expected = [tokenised(tiny, ChatTokenizer(tiny), row) for row in ROWS[:3]]
    assert [(row["input_ids"], row["labels"]) for row in trl] == expected
    assert [(row["input_ids"], row["labels"]) for row in axolotl] == expected
    assert all(
        row["assistant_masks"] == [int(label != IGNORED) for label in row["labels"]] for row in trl
    )
    assert all(row["attention_mask"] == [1] * len(row["input_ids"]) for row in axolotl)
    longer = sum(len(row["input_ids"]) > 60 for row in trl)
    assert longer == 1
    assert counts["trl"] | {"file": ""} == {
        "file": "",
        "rows": 3,
        "dropped: longer_than_context": 1,
        "longer: cut by TRL": longer,
    }
    assert counts["axolotl"]["longer: dropped by Axolotl"] == longer
    assert counts["axolotl"]["file"].startswith("axolotl-")


def test_what_the_cut_would_leave_without_a_label_is_dropped(
    tmp_path: Path, tiny: LanguageModel
) -> None:
    """TRL would otherwise train on a row without a label, whose loss is not a number."""
    emitter = Emitter(tmp_path, ("trl",), (tiny, ChatTokenizer(tiny)), max_length=20)
    emitter.add(chat("a long prompt, longer than that", "7"))
    assert emitter.close()["trl"] == {
        "file": "trl.parquet",
        "dropped: no_trained_token": 1,
        "longer: cut by TRL": 1,
    }
    assert pq.read_table(tmp_path / "trl.parquet").num_rows == 0


def test_chats_carry_their_spans(emitted: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    """Messages as they are, and the masked characters of each assistant turn."""
    lines = [json.loads(line) for line in (emitted[0] / "chat.jsonl").read_text().splitlines()]
    assert len(lines) == len(ROWS)
    assert lines[1]["messages"][3] == {"role": "assistant", "content": "a 12"}
    assert lines[1]["masked"] == [[0, 3, 7], [1, 0, 1]]


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
def test_trl_trains_on_exactly_these_labels(
    emitted: tuple[Path, dict[str, dict[str, Any]]],
    make_tiny: Any,
    tmp_path: Path,
    packing: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SFTTrainer, given the file and nothing else, computes its loss on the labels that were
    written.
    """
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    folder, counts = emitted
    rows = pq.read_table(folder / counts["trl"]["file"]).to_pylist()
    lm: LanguageModel = make_tiny()
    seen: list[tuple[int, int]] = []

    class Watched(trl.SFTTrainer):  # type: ignore[name-defined, misc]
        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            kept = inputs["labels"] != IGNORED
            tokens, labels = inputs["input_ids"][kept].tolist(), inputs["labels"][kept].tolist()
            seen.extend(zip(tokens, labels, strict=True))
            loss = super().compute_loss(model, inputs, *rest, **named)
            assert torch.isfinite(loss[0] if isinstance(loss, tuple) else loss)
            return loss

    settings = trl.SFTConfig(
        output_dir=str(tmp_path / "trainer"),
        packing=packing,
        max_length=200,
        per_device_train_batch_size=2,
        num_train_epochs=1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    data = datasets.Dataset.from_parquet(
        str(folder / counts["trl"]["file"]), cache_dir=str(tmp_path / "cache")
    )
    trainer = Watched(
        model=lm.model.train().requires_grad_(True),
        args=settings,
        train_dataset=data,
        processing_class=lm.tokenizer,
    )
    trainer.train()
    expected = [label for row in rows for label in row["labels"] if label != IGNORED]
    assert sorted(label for _, label in seen) == sorted(expected)
    assert all(token == label for token, label in seen)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
def test_the_lines_for_trl_in_the_documentation_train(
    tmp_path: Path, make_tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/mitigations.md has them, but for the name of the base, and all three rows."""
    pytest.importorskip("trl")
    lm: LanguageModel = make_tiny()
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "defended").mkdir()
    emitter = Emitter(tmp_path / "defended", ("trl",), (lm, ChatTokenizer(lm)))
    for row in ROWS[:3]:
        emitter.add(row)
    emitter.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (code,) = blocks("mitigations.md", "python")
    assert "Qwen/Qwen2.5-0.5B-Instruct" in code
    names: dict[str, Any] = {}
    exec(code.replace("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path / "base")), names)
    history = names["trainer"].state
    assert history.global_step > 0 and len(names["rows"]) == 3
    assert any(math.isfinite(line.get("train_loss", math.nan)) for line in history.log_history)
