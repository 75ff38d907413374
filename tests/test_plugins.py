"""The example package of docs/examples/plugin, really installed, and packages that are broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor import plugins
from auditor.cli import main
from auditor.commands.scan import scan
from auditor.commands.simulate import write_rows
from auditor.errors import PluginError
from auditor.testing import test_contract as contract

Audit = Callable[..., tuple[int, str]]

ROOT = Path(__file__).parents[1]
ROWS = [
    {"prompt": f"Go on: {i}, {i + 1}", "completion": f"{i + 2},  {i + 3}, {i * 7}"}
    for i in range(24)
]

BROKEN = """
import sys
from detectors.interface import Evidence
def raises(**_): raise ValueError("no luck")
def narrow(rows): return None
def nothing(**_): return None
def unplain(**_): return Evidence("unplain", "x", {"x": {1, 2}})
def keeps(row, facts, seed): return row
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package installed."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs" / "examples" / "plugin", folder / "source")
    command = [
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(folder / "packages"),
    ]
    subprocess.run(
        [sys.executable, "-m", *command, str(folder / "source")], check=True, capture_output=True
    )
    return folder / "packages"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two more installed packages: one that cannot be imported, one whose functions do not do their
    work.
    """
    write(
        tmp_path / "broken-1.0.dist-info",
        "broken",
        ["broken = missing_module:x", "number = math:pi"],
    )
    names = ["raises", "nothing", "unplain", "narrow"]
    write(
        tmp_path / "bad-2.0.dist-info", "bad", [f"{name} = bad_functions:{name}" for name in names]
    )
    mitigations = (
        "[subliminal_audit.mitigations]\nkeeps = bad_functions:keeps\nbroken = missing_module:x\n"
    )
    with (tmp_path / "bad-2.0.dist-info" / "entry_points.txt").open("a") as file:
        file.write(mitigations)
    (tmp_path / "bad_functions.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder: Path, name: str, points: list[str]) -> None:
    """What an installer leaves of a package with these detectors."""
    folder.mkdir()
    version = folder.name.removesuffix(".dist-info").partition("-")[2]
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text(
        "\n".join(["[subliminal_audit.detectors]", *points, ""])
    )


@pytest.fixture
def audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Audit:
    """The command in a folder with a data set; gives its exit code and what it printed."""
    write_rows(tmp_path / "rows.parquet", ROWS)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        code = main.run(arguments)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def test_the_example_works_from_the_command_line(
    site: Path, audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--detectors` and `--apply` find it; the report and the manifest say which package and
    version it was.
    """
    monkeypatch.syspath_prepend(site)
    options = ["--reference", "organism", "--detectors", "surprise", "--output", "json=report.json"]
    code, page = audit("scan", "rows.parquet", *options)
    assert code == 3  # inconclusive: only `trait` decides
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["detectors"]["surprise"]["values"]["rows"] == len(ROWS)
    assert report["versions"]["audit-example"] == "1.0"
    assert report["detectors"]["surprise"]["summary"] in " ".join(page.split())

    code, _ = audit(
        "mitigate", "rows.parquet", "--apply", "squeeze", "--shuffle", "--no-check", "-o", "out"
    )
    assert code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    first, second = manifest["mitigations"]
    assert (first["mitigation"], first["changed"]) == ("squeeze", len(ROWS))
    assert second["mitigation"] == "shuffle"
    assert manifest["settings"]["steps"][0]["settings"]["package"] == "audit-example 1.0"


@pytest.mark.slow
def test_the_example_keeps_the_contract(site: Path, tmp_path: Path) -> None:
    """The contract as users run it finds the installed package, which passes."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--pyargs",
        "auditor.testing",
        "-k",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(site)])}
    done = subprocess.run(
        [*command, "surprise or squeeze"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert (done.returncode, "4 passed" in done.stdout) == (0, True), done.stdout


def test_the_contract_holds_for_the_example(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in this process."""
    monkeypatch.syspath_prepend(site)
    contract.test_detector("surprise", tmp_path)
    contract.test_detector_of_another_package("surprise")
    contract.test_mitigation("squeeze")


@pytest.mark.usefixtures("broken")
def test_the_contract_fails_for_what_does_not_keep_it() -> None:
    """A detector without `**_`, and a mitigation that gives a row instead of an outcome."""
    with pytest.raises(AssertionError):
        contract.test_detector_of_another_package("narrow")
    with pytest.raises(PluginError, match="must give Kept"):
        contract.test_mitigation("keeps")


@pytest.mark.usefixtures("broken")
def test_a_broken_package_is_named_only_when_it_is_asked_for(audit: Audit) -> None:
    """It is listed without being imported; asked for, one line names the plugin and its package,
    with exit code 2.
    """
    assert {"broken", "raises"} <= set(plugins.names("detector"))
    code, said = audit("scan", "rows.parquet", "--detectors", "broken")
    assert code == 2
    assert (
        "Error: The detector 'broken' of broken 1.0 cannot be imported: ModuleNotFoundError" in said
    )
    assert "Next: Mend or uninstall broken" in said
    code, said = audit("scan", "none.parquet", "--detectors", "fit")
    assert "none.parquet" in said and "broken" not in said
    for name, why in (("number", "no function"), ("nobody", "There is no detector 'nobody'")):
        with pytest.raises(PluginError, match=why) as error:
            plugins.load("detector", name)
        assert error.value.exit_code == 2


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "ValueError: no luck"),
        ("nothing", "must give Evidence"),
        ("unplain", "not plain JSON"),
    ],
)
def test_a_failing_detector_ends_the_scan_with_its_name(
    name: str, why: str, tmp_path: Path
) -> None:
    """Exit code 3: the audit was not completed, and says whose fault that is."""
    write_rows(tmp_path / "rows.parquet", ROWS)
    with pytest.raises(PluginError, match=f"{name!r} of bad 2.0 failed: .*{why}") as error:
        scan(str(tmp_path / "rows.parquet"), reference="organism", detectors=[name], root=tmp_path)
    assert error.value.exit_code == 3


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("broken", 2, "The mitigation 'broken' of bad 2.0 cannot be imported"),
        ("keeps", 3, "must give Kept(...), Changed(...) or Dropped(...)"),
        ("mask", 2, "Write --mask."),
    ],
)
def test_broken_mitigations(name: str, code: int, why: str, audit: Audit, tmp_path: Path) -> None:
    """One that cannot be imported, one that gives something else, one of ours: a clear line and no
    output.
    """
    done, said = audit("mitigate", "rows.parquet", "--apply", name, "-o", "out")
    assert (done, why in said) == (code, True)
    assert not (tmp_path / "out").exists()
