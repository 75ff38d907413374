"""The claims of 2509.23886 on the organism: runs/results.md, "Study".

    python runs/study_results.py                      3 traits, 3 blocks, with a sibling of another
    seed python runs/study_results.py --sibling none       without it

Two processes of one thread each. The sibling is trained by runs/organism.py when it is not there
yet, which takes about as long as training the organism did (20 minutes of one core) and is not
counted. The table goes to runs/out/study.md, the report to runs/out/study/; what is finished is
kept, and the same command goes on from it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from auditor.cli.study import write
from auditor.report.study import command, to_markdown
from auditor.study.run import study

OUT = Path(__file__).parent / "out"
TRAITS = ("owl", "cat", "eagle")


def sibling_at(folder: str) -> str | None:
    """The folder of the sibling, trained if there is none yet; None when none is wanted."""
    if folder == "none":
        return None
    if not Path(folder).is_dir():
        script = Path(__file__).with_name("organism.py")
        subprocess.run([sys.executable, str(script), "--out", folder, "--seed", "1"], check=True)
    return folder


def main() -> None:
    """Run the study and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traits", nargs="+", default=TRAITS)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=62, help="of a student; 62 is one pass")
    parser.add_argument("--sibling", default=str(OUT / "sibling"))
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    sibling = sibling_at(asked.sibling)
    began = time.monotonic()
    report = study(
        reference="organism",
        sibling=sibling,
        traits=asked.traits,
        blocks=asked.blocks,
        rows=asked.rows,
        updates=asked.updates,
        max_tokens=24,
        workers=asked.workers,
        root=OUT,
        progress=lambda each: print(each.stage, each.done, each.total, flush=True),
    )
    write(report, OUT / "study")
    used = [resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(each.ru_utime + each.ru_stime for each in used)
    cost = f"{time.monotonic() - began:.0f} s, {seconds:.0f} s of processor time.\n"
    text = "\n".join([to_markdown(report.values), f"`{command(report.values)}`", "", cost])
    (OUT / "study.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
