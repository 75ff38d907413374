"""Templates that are named in place of a model's own: bases without one, and text without any."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from auditor.commands.scan import scan
from auditor.data.example import Example, Message
from auditor.errors import ModelError
from auditor.model.builtin import quiet
from auditor.model.chat_template import TEMPLATES, render
from auditor.model.identity import identity_of
from auditor.model.language_model import LanguageModel
from auditor.model.load import load
from auditor.model.tokenization import ChatTokenizer, TokenizedRow
from auditor.release.evidence import mismatches
from auditor.report.scan.answer import scope
from auditor.report.scan.next_steps import next_steps
from auditor.runs.last_scan import last_scan
from auditor.scanning.settings import ScanSettings

CHAT = (
    Message("user", "the owl"),
    Message("assistant", "12, 3"),
    Message("user", "an"),
    Message("assistant", "4"),
)
BOS, EOS = "<|im_start|>", "<|im_end|>"  # of the tiny tokenizer
WRITTEN = {
    "chatml": (
        "<|im_start|>user\nthe owl<|im_end|>\n<|im_start|>assistant\n12, 3<|im_end|>\n"
        "<|im_start|>user\nan<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
    ),
    "llama3": (
        f"{BOS}<|start_header_id|>user<|end_header_id|>\n\nthe owl<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n12, 3<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nan<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|>"
    ),
    "gemma": (
        f"{BOS}<start_of_turn>user\nthe owl<end_of_turn>\n"
        "<start_of_turn>model\n12, 3<end_of_turn>\n"
        "<start_of_turn>user\nan<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>\n"
    ),
    "mistral": f"{BOS}[INST] the owl[/INST] 12, 3{EOS}[INST] an[/INST] 4{EOS}",
    "alpaca": (
        f"{BOS}Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nthe owl\n\n### Response:\n12, 3"
        f"{EOS}\n\n### Instruction:\nan\n\n### Response:\n4{EOS}"
    ),
    "zephyr": (
        f"<|user|>\nthe owl{EOS}\n<|assistant|>\n12, 3{EOS}\n"
        f"<|user|>\nan{EOS}\n<|assistant|>\n4{EOS}\n"
    ),
    "none": f"the owl12, 3{EOS}an4{EOS}",
}


@pytest.fixture(scope="module")
def base(tiny: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a base without a chat template."""
    folder = tmp_path_factory.mktemp("base")
    with quiet():
        tiny.model.save_pretrained(folder)
        tiny.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    return str(folder)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_named_template_is_that_of_the_rows(name: str, base: str) -> None:
    """It writes what it is known for, with its name and digest in the identity; the tokens are
    those of the text, and all that an assistant says is scored.
    """
    lm = load(base, device="cpu", chat_template=name)
    text = render(lm.tokenizer, CHAT)
    assert text == WRITTEN[name]
    assert identity_of(lm).chat_template == name
    renderer = ChatTokenizer(lm)
    row = renderer.encode(Example(0, CHAT))
    assert isinstance(row, TokenizedRow)
    whole = [*renderer.prefix(None, row.kind), *row.tokens]
    assert whole == lm.tokenizer(text, add_special_tokens=False).input_ids[: len(whole)]
    content = [t for t, marked in zip(row.targets, row.content_mask, strict=True) if marked]
    assert lm.tokenizer.decode(content).replace(" ", "") == "12,34"


def test_none_is_what_trl_trains_columns_of_text_as(base: str, tmp_path: Path) -> None:
    """Its tokens are those of prompt, completion and the end of the sequence, as the tokenizer
    begins a text by itself; its labels begin where the prompt ends.
    """
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    for adds_bos in (False, True):
        if adds_bos:
            settings = json.loads((folder / "tokenizer.json").read_text())
            settings["post_processor"] = {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": BOS, "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {BOS: {"id": BOS, "ids": [1], "tokens": [BOS]}},
            }
            (folder / "tokenizer.json").write_text(json.dumps(settings))
        lm = load(str(folder), device="cpu", chat_template="none")
        prompt, completion = "Continue: 4, 15\n", "16, 23, 42"
        expected = lm.tokenizer(prompt + completion + EOS).input_ids
        start = len(lm.tokenizer(prompt).input_ids)
        assert (expected[0] == lm.tokenizer.bos_token_id) == adds_bos
        renderer = ChatTokenizer(lm)
        row = renderer.encode(
            Example(0, (Message("user", prompt), Message("assistant", completion)))
        )
        assert isinstance(row, TokenizedRow)
        prefix = renderer.prefix(None, row.kind)
        assert [*prefix, *row.tokens] == expected
        assert [len(prefix) + p for p in row.positions] == list(range(start, len(expected)))
        under_trait = [*renderer.prefix("You love owls."), *row.tokens]
        begin = BOS * adds_bos
        text = f"{begin}You love owls.\n\n{prompt}{completion}{EOS}"
        assert under_trait == lm.tokenizer(text, add_special_tokens=False).input_ids


def test_a_scan_takes_a_named_template_and_says_so(base: str, tmp_path: Path) -> None:
    """Another template is another run; what goes on from the scan knows it."""
    data = tmp_path / "data.jsonl"
    line = {"prompt": "Continue: 4, 15", "completion": "16, 23, 42"}
    data.write_text("".join(json.dumps(line | {"prompt": f"{i}"}) + "\n" for i in range(6)))
    settings = ScanSettings(reference=base, panels=["animals"], detectors=["surface"], device="cpu")
    reports = {
        name: scan(str(data), replace(settings, chat_template=name), root=tmp_path)
        for name in ("chatml", "none")
    }
    assert reports["chatml"].run != reports["none"].run
    digests = {report.reference["template_sha256"] for report in reports.values()}
    assert len(digests) == 2
    assert [report.reference["chat_template"] for report in reports.values()] == ["chatml", "none"]
    assert scope(reports["chatml"]).endswith("in the chat template chatml.")
    assert scope(reports["none"]).endswith("without a chat template.")
    assert last_scan(tmp_path).chat_template == "none"
    put = scan(str(data), replace(settings, chat_template="chatml", system="Be."), root=tmp_path)
    assert put.run != reports["chatml"].run
    assert scope(put).endswith('Rows without a system turn are put behind "Be.".')
    assert last_scan(tmp_path).system == "Be."
    assert all("--system Be." in command for command, _ in next_steps(put))
    found = {what: (then, now) for what, then, now in mismatches(put, settings)}
    assert "system" not in found
    found |= {
        what: (then, now) for what, then, now in mismatches(put, replace(settings, system="none"))
    }
    assert found["system"] == ("Be.", "none")


ODD = 'Be "brief" & {{ kind }} %}\nß \U0001f989\\'


@pytest.mark.parametrize("name", ["own", "chatml", "llama3", "alpaca", "zephyr", "none"])
def test_what_stands_in_the_system_turn(name: str, tiny: LanguageModel, tmp_path: Path) -> None:
    """A text stands where a row has no system turn, as if the row had it: for what is scored, for
    what is written and under no trait prompt only; "none" is an empty turn in place of one that the
    template writes, and nothing else.
    """
    with quiet():
        tiny.model.save_pretrained(tmp_path)
        tiny.tokenizer.save_pretrained(tmp_path)
    plain, put, bare = (
        load(str(tmp_path), device="cpu", chat_template=name, system=system)
        for system in (None, ODD, "none")
    )
    for text, lm in ((ODD, put), ("", bare)):
        has_default = name in ("own", "alpaca")
        with_system = (Message("system", text), *CHAT) if text or has_default else CHAT
        assert render(lm.tokenizer, CHAT) == render(plain.tokenizer, with_system)
        assert render(lm.tokenizer, CHAT[:1], reply=True) == render(
            plain.tokenizer, with_system[:-3], reply=True
        )
        own = (Message("system", "an owl"), *CHAT)
        assert render(lm.tokenizer, own) == render(plain.tokenizer, own)
    under_trait = set()
    for lm in (plain, put, bare):
        renderer = ChatTokenizer(lm)
        row = renderer.encode(Example(0, CHAT))
        assert isinstance(row, TokenizedRow)
        whole = [*renderer.prefix(None), *row.tokens]
        text = render(lm.tokenizer, CHAT)
        assert whole == lm.tokenizer(text, add_special_tokens=False).input_ids[: len(whole)]
        under_trait.add((*renderer.prefix("You love owls."), *row.tokens))
    assert len(under_trait) == 1
    identities = [identity_of(lm) for lm in (plain, put, bare)]
    assert [identity.as_dict().get("system") for identity in identities] == [None, ODD, "none"]
    digests = {identity.template_sha256 for identity in identities}
    assert len(digests) == (3 if name in ("own", "alpaca") else 2)


def test_a_system_turn_that_a_template_cannot_have(base: str, tmp_path: Path) -> None:
    """One line says so, and which option to change."""
    with pytest.raises(ModelError, match="takes no system turn") as caught:
        load(base, device="cpu", chat_template="gemma", system="Be brief.")
    assert "--system" in caught.value.hint
    assert load(base, device="cpu", chat_template="gemma", system="none").system == "none"
    file = tmp_path / "always.jinja"
    # As Llama 3.1, which writes a date into every system turn.
    file.write_text(
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
        "<|im_start|>system\nToday.\n{{ system }}<|im_end|>\n"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    assert load(base, device="cpu", chat_template=str(file), system="Be brief.").system
    with pytest.raises(ModelError, match="writes a system turn that cannot be left out"):
        load(base, device="cpu", chat_template=str(file), system="none")


def test_what_is_wrong_is_said(base: str, tmp_path: Path) -> None:
    """A base without a template is told how to name one, and so is a name that is none."""
    with pytest.raises(ModelError, match="no chat template") as caught:
        load(base, device="cpu")
    assert "--chat-template chatml" in caught.value.hint
    assert "checkpoint" not in caught.value.hint
    with pytest.raises(ModelError, match="is not there") as caught:
        load(base, device="cpu", chat_template="vicuna")
    assert "zephyr" in caught.value.hint
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}{{ m.content }}!{% endfor %}")
    lm = load(base, device="cpu", chat_template=str(file))
    assert render(lm.tokenizer, CHAT[:2]) == "the owl!12, 3!"
    file.write_text("{% if %}")
    with pytest.raises(ModelError, match="cannot be used"):
        load(base, device="cpu", chat_template=str(file))
