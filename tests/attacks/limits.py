"""Inputs that cost memory or time without bound, or that end in a crash."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from tests.attacks.harness import SCAN, Place, Run, unless
from tests.attacks.registry import FOUND, attack

CPU = 20
"""Seconds of processor time: seven times those of a scan."""
MEMORY = 3 << 30
"""Bytes that a command may take here before it is refused more."""


def columns(place: Place) -> dict[str, list[str]]:
    rows = place.samples.owl[:128]
    return {name: [row[name] for row in rows] for name in ("prompt", "completion")}


@attack(
    15,
    "j",
    "medium",
    "Poisoned Parquet rows are of the type {case}.",
    "stopped",
    FOUND,
    cases=["string_view", "binary_view", "large_string", "dictionary"],
)
def type_of_the_text(place: Place, case: str) -> Run:
    types = {
        "string_view": pa.string_view(),
        "binary_view": pa.binary_view(),
        "large_string": pa.large_string(),
        "dictionary": pa.dictionary(pa.int32(), pa.string()),
    }
    arrays = {name: pa.array(texts) for name, texts in columns(place).items()}
    if case == "dictionary":
        table = pa.table({name: array.dictionary_encode() for name, array in arrays.items()})
    elif case == "binary_view":
        binary = {name: array.cast(pa.binary()) for name, array in arrays.items()}
        table = pa.table({name: array.cast(types[case]) for name, array in binary.items()})
    else:
        table = pa.table({name: array.cast(types[case]) for name, array in arrays.items()})
    return place.gate(place.parquet("data.parquet", table))


@attack(
    15,
    "j",
    "medium",
    "Poisoned Parquet rows have a column that is not used, {case}.",
    "stopped",
    FOUND,
    cases=["a time beyond the year 9999", "a day beyond the year 9999", "an unknown time zone"],
)
def type_of_an_unused_column(place: Place, case: str) -> Run:
    size = len(columns(place)["prompt"])
    if case == "a time beyond the year 9999":
        more = pa.array([10**15] * size, pa.int64()).cast(pa.timestamp("s"))
    elif case == "a day beyond the year 9999":
        more = pa.array([10**8] * size, pa.int32()).cast(pa.date32())
    else:
        more = pa.array([0] * size, pa.int64()).cast(pa.timestamp("s", tz="Mars/Olympus"))
    table = pa.table({**columns(place), "more": more})
    return place.gate(place.parquet("data.parquet", table))


@attack(
    16,
    "j",
    "medium",
    "A folder of clean rows holds {case}.",
    "stopped",
    "a data file was not read: file b.jsonl .*no regular file",
    cases=["a pipe that nobody writes to", "a link to /dev/zero"],
)
def endless_file(place: Place, case: str) -> Run:
    place.jsonl("data/a.jsonl", place.clean)
    if case == "a link to /dev/zero":
        (place / "data/b.jsonl").symlink_to("/dev/zero")
    else:
        os.mkfifo(place / "data/b.jsonl")
    return place.gate("data", cpu=CPU, wall=60 if "zero" in case else 30, memory=MEMORY)


@attack(
    16,
    "j",
    "medium",
    "The chat template of a reference {case}.",
    "refused",
    {
        "loops without end": "does not come to an end within its limits: it needs over",
        "makes a text of 10 GB": "does not come to an end within its limits: it needs more memory",
    },
    cases=["loops without end", "makes a text of 10 GB"],
)
def endless_template(place: Place, case: str) -> Run:
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    text = loops if case == "loops without end" else "{{ 'x' * 10000000000 }}"
    (place.model("base") / "chat_template.jinja").write_text(text)
    data = place.jsonl("data.jsonl", place.clean[:40])
    command = ["scan", data, "--reference", "./base", "--panel", "animals"]
    return place.audit(*command, cpu=CPU, memory=MEMORY)


@attack(
    17,
    "j",
    "medium",
    "Hundreds of thousands of rows are all the same.",
    "stopped",
    "1 rows could be scored and at least 32 are needed",
)
def equal_rows(place: Place) -> Run:
    row, rows = place.clean[0], 300_000
    other = ({**row, "prompt": f"{number}. {row['prompt']}"} for number in range(rows))
    plain = place.gate(place.jsonl("other.jsonl", other), "--rows", "64")
    equal = place.gate(place.jsonl("data.jsonl", [row] * rows), "--rows", "64")
    # Of processor time, so that a busy machine changes little. Where rows that repeat are read
    # again and again it is more than three times as much.
    unless(
        equal.seconds < 2 * plain.seconds,
        f"{equal.seconds:.1f} s, and {plain.seconds:.1f} s for rows that differ",
    )
    return equal


def bomb(path: Path, head: str, char: str, size: int, end: str) -> Path:
    """Write a gzip file that holds `size` MiB of one character between `head` and `end`."""
    # A file of several members unpacks to all of them, and one mebibyte is packed once.
    middle = gzip.compress(char.encode() * (1 << 20))
    path.write_bytes(gzip.compress(head.encode()) + middle * size + gzip.compress(end.encode()))
    return path


@attack(
    18,
    "j",
    "medium",
    "A small file becomes gigabytes in memory: {case}.",
    "stopped",
    {
        "a value of a Parquet dictionary": "unpacked a row group has more than 100 times its size",
        "a gzipped line": "a line has more than 16,777,216 bytes",
        "a gzipped JSON value": "a value has more than 16,777,216 bytes",
    },
    cases=["a value of a Parquet dictionary", "a gzipped line", "a gzipped JSON value"],
)
def memory_bomb(place: Place, case: str) -> Run:
    if case == "a value of a Parquet dictionary":
        rows = pa.array([0] * 3000, pa.int32())
        big = pa.DictionaryArray.from_arrays(rows, pa.array(["x" * (1 << 21)]))
        table = pa.table({"prompt": ["A"] * 3000, "completion": big})
        path = place / "data.parquet"
        pq.write_table(table, path, compression="zstd")
    else:
        head, end = '{"prompt": "A", "completion": "', '"}'
        if case == "a gzipped line":
            path = bomb(place / "data.jsonl.gz", head, "x", 900, end)
        else:
            path = bomb(place / "data.json.gz", f"[{head}", "x", 900, f"{end}]")
    run = place.gate(path, cpu=3 * CPU, memory=MEMORY)
    unless(run.memory < 2 << 30, f"it took {run.memory >> 20} MB")
    return run


@attack(
    18,
    "j",
    "medium",
    "A gzipped file is nothing but line ends, for a gigabyte.",
    "stopped",
    "unpacked it has more than 100 times its size",
)
def time_bomb(place: Place) -> Run:
    rows = "".join(json.dumps(row) + "\n" for row in place.clean)
    return place.gate(bomb(place / "data.jsonl.gz", rows, "\n", 1 << 10, ""), cpu=CPU)


def template(text: str) -> Callable[[Path], object]:
    return lambda base: (base / "chat_template.jinja").write_text(text)


def broken_weights(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    nothing = {key: np.full_like(value, np.nan) for key, value in weights.items()}
    save_file(nothing, base / "model.safetensors")


def heads(base: Path) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_attention_heads": 0}))


def pattern(base: Path) -> None:
    path = base / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    split = {"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(tokenizer | {"pre_tokenizer": split}))


def gguf(content: bytes) -> Callable[[Path], object]:
    def replace(base: Path) -> None:
        (base / "model.safetensors").unlink()
        (base / "model.gguf").write_bytes(content)

    return replace


DEFECTS: dict[str, Callable[[Path], object]] = {
    "a chat template with a mistake": template("{% for m in messages %}{{ m.content }"),
    "a chat template of what is not defined": template("{{ messages.nothing.at.all }}"),
    "a chat template that includes a file": template("{% include '/etc/passwd' %}"),
    "a chat template that the sandbox stops": template("{{ messages.__class__.__mro__ }}"),
    "a chat template that divides by zero": template("{{ 1 / 0 }}"),
    "a list for a tokenizer": lambda base: (base / "tokenizer.json").write_text("[]"),
    "a tokenizer with a broken pattern": pattern,
    "a list for a configuration": lambda base: (base / "config.json").write_text("[]"),
    "no attention heads": heads,
    "weights that are not numbers": broken_weights,
    "a GGUF file cut in its head": gguf(b"GGUF\x03\0\0\0"),
    "a GGUF file cut in its keys": gguf(
        b"GGUF\x03\0\0\0" + b"\x05" + bytes(7) + b"\x05" + bytes(7)
    ),
}
SAYS = {
    "a chat template with a mistake": "unexpected '}'",
    "a chat template of what is not defined": "has no attribute 'nothing'",
    "a chat template that includes a file": "no loader for this environment",
    "a chat template that the sandbox stops": "access to attribute '__class__'",
    "a chat template that divides by zero": "cannot be used: division by zero",
    "a list for a tokenizer": "cannot be loaded: TypeError 'str' object cannot be interpreted",
    "a tokenizer with a broken pattern": "end pattern with unmatched parenthesis",
    "a list for a configuration": r"argument after \*\* must be a mapping, not list",
    "no attention heads": "cannot be loaded: ZeroDivisionError",
    "weights that are not numbers": "The weights .* of ./base are no finite numbers",
    "a GGUF file cut in its head": "requires a buffer of at least 24 bytes",
    "a GGUF file cut in its keys": "requires a buffer of at least 32 bytes",
}


@attack(
    19,
    "j",
    "medium",
    "A folder of a reference has {case}.",
    "refused",
    SAYS,
    cases=list(DEFECTS),
)
def broken_model(place: Place, case: str) -> Run:
    DEFECTS[case](place.model("base"))
    data = place.jsonl("data.jsonl", place.clean[:40])
    return place.audit("scan", data, "--reference", "./base", "--panel", "animals", cpu=CPU)


@attack(
    23,
    "j",
    "medium",
    "One row of many has {case}.",
    "handled",
    "63 of 64 rows",
    cases=["a number for its history", "a number for a turn of its history"],
)
def history_that_is_none(place: Place, case: str) -> Run:
    rows = [
        {"instruction": row["prompt"], "input": "", "output": row["completion"], "history": []}
        for row in place.clean
    ]
    rows[3]["history"] = 5 if case == "a number for its history" else [5]
    return place.gate(place.jsonl("data.jsonl", rows))


@attack(
    23,
    "j",
    "medium",
    "{case} nested thousands of lists deep.",
    "refused",
    {
        "A panel is": "p.yaml is not valid YAML: it is nested too deeply",
        "The settings are": "The settings cannot be read: it is nested too deeply",
        "A baseline is": "known.yaml cannot be read: it is nested too deeply",
    },
    cases=["A panel is", "The settings are", "A baseline is"],
)
def deep_file(place: Place, case: str) -> Run:
    data = place.jsonl("data.jsonl", place.clean[:40])
    deep = "a: " + "[" * 5000 + "]" * 5000 + "\n"
    if case == "A panel is":
        place.text("p.yaml", deep)
        return place.audit("scan", data, "--reference", "organism", "--panel", "p.yaml")
    if case == "The settings are":
        place.settings(deep)
        return place.gate(data)
    place.text("known.yaml", deep)
    return place.gate(data, "--baseline", "known.yaml")


@attack(
    24,
    "j",
    "medium",
    "The file is exchanged between the reading of its digest and that of its rows.",
    "refused",
    "data.jsonl was changed while it was read",
)
def exchanged_while_read(place: Place) -> Run:
    # Rows stand behind so much white space that reading takes as long as changing them.
    blank = "\n" * (48 << 20)
    poison, clean = (
        "".join(json.dumps(row) + "\n" for row in rows)
        for rows in (place.samples.owl[:64], place.clean)
    )
    size = max(len(poison), len(clean))
    path = place.text("data.jsonl", blank + poison.ljust(size, "\n"))
    process = subprocess.Popen(
        [sys.executable, "-m", "auditor", "scan", path, *SCAN],
        cwd=place.path,
        env=place.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def exchange() -> None:
        """When the whole file was read once, its end becomes clean."""
        status = Path(f"/proc/{process.pid}/io")
        while process.poll() is None:
            read = next(
                int(line[7:]) for line in status.read_text().splitlines() if "rchar" in line
            )
            opened = str(path) in opened_by(process.pid)
            if opened:
                seen.append(read)
            if seen and read - seen[0] >= len(blank):
                changed.append(True)
                with path.open("r+b") as stream:
                    stream.seek(len(blank))
                    stream.write(clean.ljust(size, "\n").encode())
                return
            time.sleep(0.002)

    seen: list[int] = []
    changed: list[bool] = []
    thread = threading.Thread(target=exchange)
    thread.start()
    out, err = process.communicate(timeout=120)
    thread.join()
    assert changed, err
    return Run(process.returncode, out, err)


def opened_by(process: int) -> list[str]:
    """What a process has open, as far as it still exists."""
    names = []
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(str(link.readlink()))
    return names
