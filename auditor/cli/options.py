"""Options that several commands share, with one help text each."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from auditor.cli.parsing import check_device, parse_share
from auditor.data.formats import FORMATS as ROW_FORMATS
from auditor.data.formats import Side
from auditor.engine.interface import EngineName
from auditor.report.scan import FORMATS
from auditor.traits import BUILT_IN, DEFAULT

Reference = Annotated[
    str | None,
    Option(
        metavar="MODEL",
        help="Base of the students: built-in, hub name, folder.  [default: smollm2-135m]",
    ),
]
ChatTemplate = Annotated[
    str | None,
    Option(
        metavar="NAME|FILE|none",
        help="chatml, llama3, gemma, mistral, alpaca, zephyr, or a Jinja file; none: text without; "
        "default: the model's.",
    ),
]
SystemTurn = Annotated[
    str | None,
    Option(
        "--system",
        metavar="TEXT|none",
        help="System turn of rows that have none, as in training; none: an empty one where the "
        "model's template has its own; default: as the template has it.",
    ),
]
Panels = Annotated[
    list[str] | None,
    Option(metavar="PANEL", help=f"{', '.join((DEFAULT, *BUILT_IN))}, or a YAML file; repeatable."),
]
Seed = Annotated[int, Option(metavar="N", min=0, help="Seed of every random choice.")]
Device = Annotated[
    str | None,
    Option(metavar="NAME", callback=check_device, help="cpu, cuda or mps; default: the best one."),
]
Dtype = Annotated[
    str | None, Option(metavar="NAME", help="float32 or bfloat16; default: float32 where it fits.")
]
EngineOption = Annotated[
    EngineName | None,
    Option("--engine", help="Where the work is done: here, or on Ray.  [default: local]"),
]
RayAddress = Annotated[
    str | None,
    Option(
        metavar="ADDRESS",
        help="Of the cluster; default: the one that runs here, else one is started.",
    ),
]
Fresh = Annotated[bool, Option("--fresh", help="Do not go on from an earlier run.")]
Tuned = Annotated[
    bool,
    Option(
        "--tuned",
        help="Also tune copies of the reference, to find a trait in the teacher's weights.",
    ),
]
Students = Annotated[
    bool,
    Option("--students", help="Also train students on the data, to see whether these move them."),
]
Exclude = Annotated[
    float | None,
    Option(
        metavar="SHARE",
        parser=parse_share,
        help="Share of the rows that a pass excludes for every trait.  [default: 0.25]",
    ),
]
Budget = Annotated[
    str | None,
    Option(
        metavar="TIME",
        help="For scoring traits, as 90s, 15m or 2h, with --rows auto.  [default: 10m]",
    ),
]
RowFormat = Annotated[
    str | None,
    Option(metavar="FORMAT", help=f"Row format, if not to be detected: {', '.join(ROW_FORMATS)}."),
]
SideOption = Annotated[
    Side | None,
    Option(help="Answers of a preference set to read.  [default: chosen]"),
]
Columns = Annotated[str, Option(metavar="ROLE=COLUMN,..", help="Columns, as in prompt=question.")]

ScanOutput = Annotated[
    list[str] | None,
    Option(
        metavar="FORMAT=PATH",
        help=f"Also write the report, as {', '.join(FORMATS)}; repeatable. Of a path alone the "
        "suffix says the format.",
    ),
]

# Of experiments with students.
Control = Annotated[
    str | None,
    Option(
        metavar="FILE", help="Clean rows for the same prompts; default: the reference writes them."
    ),
]
