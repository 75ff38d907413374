"""Options that several commands share, with one help text each."""

from __future__ import annotations

from typing import Annotated

from typer import Option

Reference = Annotated[
    str | None,
    Option(
        metavar="MODEL",
        help="Base of the students: built-in, hub name, folder.  [default: smollm2-135m]",
    ),
]
Panels = Annotated[
    list[str] | None, Option(metavar="PANEL", help="Built-in or YAML file; repeatable.")
]
Seed = Annotated[int, Option(metavar="N", min=0, help="Seed of every random choice.")]
Device = Annotated[
    str | None, Option(metavar="NAME", help="cpu, cuda or mps; default: the best one.")
]
Dtype = Annotated[
    str | None, Option(metavar="NAME", help="float32 or bfloat16; default: float32 where it fits.")
]
Fresh = Annotated[bool, Option("--fresh", help="Do not go on from an earlier run.")]
Tuned = Annotated[
    bool,
    Option(
        "--tuned",
        help="Also tune copies of the reference, to find a trait in the teacher's weights.",
    ),
]
RowFormat = Annotated[
    str | None, Option(metavar="FORMAT", help="Row format, if not to be detected.")
]
Columns = Annotated[str, Option(metavar="ROLE=COLUMN,..", help="Columns, as in prompt=question.")]

# Of experiments with students.
Control = Annotated[
    str | None,
    Option(
        metavar="FILE", help="Clean rows for the same prompts; default: the reference writes them."
    ),
]
BlockRows = Annotated[
    int | None, Option(metavar="N", min=1, help="Rows of a block; default: what there is.")
]
Updates = Annotated[
    int | None, Option(metavar="N", min=1, help="Of each student; default: one pass, or 60.")
]
Budget = Annotated[
    str | None,
    Option(
        metavar="TIME", help="As 90s, 15m or 2h; default: 30m, or none with --rows or --updates."
    ),
]
Rank = Annotated[
    int | None, Option(metavar="N", min=1, help="Of the students' LoRA.  [default: 8]")
]
Alpha = Annotated[int | None, Option(metavar="N", min=1, help="Scale of the LoRA.  [default: 16]")]
Layers = Annotated[str | None, Option(metavar="N,..", help="Train these layers only, from 0.")]
Full = Annotated[bool, Option("--full", help="Train all weights; default for models under 10M.")]
LearningRate = Annotated[
    float | None,
    Option(metavar="RATE", min=0.0, help="[default: 2e-4; --full 2e-5; under 10M weights 3e-4]"),
]
