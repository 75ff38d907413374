"""No code comes from the working directory, where data that somebody else wrote may lie."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from auditor.errors import ModelError
from auditor.model.builtin import fetch

ROOT = Path(__file__).parents[1]
MODULES = (
    "json",
    "pip",
    "typing",
    "typer",
    "torch",
    "numpy",
    "multiprocessing",
    "pickle",
    "socket",
)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder with modules that leave a file named PWNED when they are imported, and a plug-in."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'PWNED')!r}, 'a').write({name!r})"
        )
    plugin = folder / "evil-1.0.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text("[subliminal_audit.detectors]\nevil = json:loads\n")
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An environment that finds this checkout and its dependencies without any variable."""
    folder = tmp_path / "venv"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    (packages / "paths.pth").write_text("\n".join(paths))
    script = folder / "bin" / "audit"
    script.write_text(
        f"#!{folder}/bin/python\nimport sys\nfrom auditor.__main__ import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    return folder / "bin"


@pytest.mark.parametrize("way", ["audit", "python -m auditor", "python -I -m auditor"])
@pytest.mark.parametrize("variable", [None, "", "{data}"])
def test_modules_of_the_working_directory_are_not_imported(
    way: str, variable: str | None, planted: Path, installed: Path, tmp_path: Path
) -> None:
    """By the console script and as a module; also where PYTHONPATH has an empty entry, which Python
    takes for the working directory before any code of ours runs, if for no module that it loads
    earlier itself.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if variable is not None:
        environment["PYTHONPATH"] = os.pathsep.join([variable.format(data=planted), "/nowhere"])
    program, *options = way.split()
    command = [str(installed / program), *options, "scan", "no.jsonl", "--detector", "evil"]
    done = subprocess.run(
        command, cwd=planted, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert not (tmp_path / "PWNED").exists(), (tmp_path / "PWNED").read_text()
    assert "evil" not in done.stderr or "There is no detector" in done.stderr


def test_worker_processes_take_nothing_from_there(
    planted: Path, installed: Path, tmp_path: Path
) -> None:
    """A process that multiprocessing starts runs `python -c`, which would look there first."""
    code = (
        "from auditor.isolation import leave_working_directory as leave; leave()\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1, get_context('spawn')) as pool:\n"
        "        print(pool.submit(os.getcwd).result())\n"
    )
    (tmp_path / "program.py").write_text(code)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(installed / "python"), str(tmp_path / "program.py")]
    done = subprocess.run(
        command, cwd=planted, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(planted)), done.stderr
    assert not (tmp_path / "PWNED").exists(), (tmp_path / "PWNED").read_text()


def test_the_default_reference_is_fetched_by_the_real_pip(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m pip` would run the pip.py of the working directory."""
    monkeypatch.chdir(planted)
    monkeypatch.setenv("SUBLIMINAL_AUDIT_CACHE", str(tmp_path / "cache"))
    for setting in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(setting, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match="cannot be downloaded"):
        fetch("smollm2-135m")
    assert not (tmp_path / "PWNED").exists()
