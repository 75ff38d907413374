"""Model folders: the organism with one file changed, damaged or missing."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.drawing import drawn
from tests.fuzz.process import Case, check
from tests.fuzz.rows import HOSTILE, jsonl, plain

ORGANISM = Path(str(files("auditor.resources") / "organism"))
SCAN = ("scan", "d.jsonl", "--reference", "./m", "--panel", "animals", "--detectors", "trait")
CONFIG = json.loads((ORGANISM / "config.json").read_text())
TOKENIZER = json.loads((ORGANISM / "tokenizer.json").read_text())
WEIGHTS = (ORGANISM / "model.safetensors").read_bytes()
values = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(-3, 5),
    st.just(10**12),
    st.sampled_from(HOSTILE),
    st.lists(st.integers(-1, 9), max_size=2),
    st.just({}),
    st.sampled_from(["llama", "gpt2", "bert", "float16"]),
)


def folder(change: Callable[[Path], object], passes: bool | None = None) -> None:
    """Scan on a copy of the organism that `change` has changed."""

    def build(place: Path) -> None:
        (place / "d.jsonl").write_bytes(jsonl(plain()))
        shutil.copytree(ORGANISM, place / "m")
        change(place / "m")

    check(Case(SCAN, build, passes=passes, deadline=8, verdict="no_risk"))


def put(name: str, content: str | bytes) -> Callable[[Path], object]:
    """A change: this content in a file."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return lambda model: (model / name).write_bytes(data)


@drawn(40, key=st.sampled_from(sorted(CONFIG)), value=values)
def test_any_config(key: str, value: Any) -> None:
    """One value of the configuration is another."""
    folder(put("config.json", json.dumps(CONFIG | {key: value})))


@drawn(
    25,
    at=st.floats(0, 1),
    name=st.sampled_from(
        ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"]
    ),
)
def test_cut(at: float, name: str) -> None:
    """A file is cut short."""
    whole = (ORGANISM / name).read_bytes()
    folder(put(name, whole[: min(int(at * len(whole)), len(whole) - 3)]), passes=False)


@drawn(25, at=st.integers(0, 4000), byte=st.integers(0, 255))
def test_flipped_header(at: int, byte: int) -> None:
    """A byte of the header of the weights is another."""
    content = bytearray(WEIGHTS)
    content[at] = byte
    folder(put("model.safetensors", bytes(content)))


@drawn(25, key=st.sampled_from(sorted(TOKENIZER)), value=values)
def test_any_tokenizer(key: str, value: Any) -> None:
    """One part of the tokenizer is another."""
    folder(put("tokenizer.json", json.dumps(TOKENIZER | {key: value})))


def header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The weights with another header."""
    (length,) = struct.unpack("<Q", WEIGHTS[:8])
    value = json.loads(WEIGHTS[8 : 8 + length])
    change(value)
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text + WEIGHTS[8 + length :]


def unlink(*names: str) -> Callable[[Path], object]:
    """A change: files are missing."""
    return lambda model: [(model / name).unlink() for name in names]


def not_a_number(model: Path) -> None:
    """Half of the weights are NaN."""
    half = len(WEIGHTS) // 2 // 4 * 4
    (model / "model.safetensors").write_bytes(WEIGHTS[:half] + b"\xff" * (len(WEIGHTS) - half))


def template(text: str) -> Callable[[Path], object]:
    """A change: another chat template."""
    return put("chat_template.jinja", text)


ROWS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
FILES: dict[str, tuple[Callable[[Path], object], bool | None]] = {
    "config of a list": (put("config.json", "[]"), False),
    "config of nothing": (put("config.json", ""), False),
    "deep config": (put("config.json", "[" * 100_000), False),
    "heads 0": (put("config.json", json.dumps(CONFIG | {"num_attention_heads": 0})), False),
    "more layers": (put("config.json", json.dumps(CONFIG | {"num_hidden_layers": 6})), False),
    "fewer layers": (put("config.json", json.dumps(CONFIG | {"num_hidden_layers": 1})), False),
    "huge vocabulary": (put("config.json", json.dumps(CONFIG | {"vocab_size": 10**9})), False),
    "code of its own": (
        put(
            "config.json",
            json.dumps(CONFIG | {"model_type": "x", "auto_map": {"AutoConfig": "x.X"}}),
        ),
        False,
    ),
    "tokenizer of a list": (put("tokenizer.json", "[]"), False),
    "bad pattern": (
        put(
            "tokenizer.json",
            json.dumps(
                TOKENIZER
                | {
                    "pre_tokenizer": {
                        "type": "Split",
                        "pattern": {"Regex": "("},
                        "behavior": "Isolated",
                        "invert": False,
                    }
                }
            ),
        ),
        False,
    ),
    "no tokenizer": (unlink("tokenizer.json", "tokenizer_config.json"), False),
    "no weights": (unlink("model.safetensors"), False),
    "no config": (unlink("config.json"), False),
    "no template": (unlink("chat_template.jinja"), False),
    "pickled": (
        lambda model: (model / "model.safetensors").rename(model / "pytorch_model.bin"),
        False,
    ),
    "missing weight": (
        put("model.safetensors", header(lambda h: h.pop(next(k for k in h if "layers" in k)))),
        False,
    ),
    "weight by another name": (
        put(
            "model.safetensors",
            header(lambda h: h.update(x=h.pop(next(k for k in h if "layers" in k)))),
        ),
        False,
    ),
    "not a number": (not_a_number, False),
    "huge header": (put("model.safetensors", struct.pack("<Q", 1 << 40)), False),
    "gguf": (
        lambda model: [
            (model / "model.safetensors").unlink(),
            (model / "m.gguf").write_bytes(b"GGUF" + b"\3\0\0\0" + b"\xff" * 16),
        ],
        False,
    ),
    "empty gguf": (
        lambda model: [
            (model / "model.safetensors").unlink(),
            (model / "m.gguf").write_bytes(b"GGUF"),
        ],
        False,
    ),
    "template of bad syntax": (template("{% for %}"), False),
    "template without a name": (template("{{ nothing.at.all }}"), False),
    "template that includes": (template("{% include '/etc/passwd' %}"), False),
    "template that raises": (template("{{ raise_exception('no') }}"), False),
    "template that reaches out": (
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        False,
    ),
    "template that recurses": (template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), False),
    "template that loops": (
        template(
            "{% for a in range(10**5) %}{% for b in range(10**5) %}{% endfor %}{% endfor %}" + ROWS
        ),
        False,
    ),
    "template of ten gigabytes": (template("{{ 'x' * 10**10 }}" + ROWS), False),
    "template of powers": (template("{{ 10 ** (10 ** 8) }}" + ROWS), False),
    "template of nothing": (template(""), False),
    "template of white space": (template(" "), None),
    "template that drops the row": (template("{% for m in messages %}x{% endfor %}"), None),
    "template that escapes": (template("\x1b[2J" + ROWS), None),
    "weights are a pipe": (
        lambda model: [
            (model / "model.safetensors").unlink(),
            os.mkfifo(model / "model.safetensors"),
        ],
        False,
    ),
    "config is endless": (
        lambda model: [
            (model / "config.json").unlink(),
            (model / "config.json").symlink_to("/dev/zero"),
        ],
        False,
    ),
    "config is a folder": (
        lambda model: [(model / "config.json").unlink(), (model / "config.json").mkdir()],
        False,
    ),
    "a file in place of a folder": (
        lambda model: [shutil.rmtree(model), model.write_bytes(WEIGHTS)],
        False,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    """What is no model ends with one clear error; a broken one never with a pass."""
    change, passes = FILES[name]
    folder(change, passes)
