"""The files for CI: valid by their schemas, safe against injection, and their commands do what they
should.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from auditor import load, load_panels, write_rows
from auditor.commands.simulate import simulate
from auditor.model.builtin import BUILT_IN

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ISSUE_CONFIG = ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"
ISSUE_FORMS = sorted(set(ISSUE_CONFIG.parent.glob("*.yml")) - {ISSUE_CONFIG})
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: dict[str, Any] = {
    step.get("name", step.get("uses")): step for step in ACTION["runs"]["steps"]
}
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with owls.parquet, clean.parquet, and an environment with the commands `audit` and
    `python`.
    """
    place = tmp_path_factory.mktemp("ci")
    owl = load_panels(["animals"]).trait("owl")
    made = simulate(load("organism"), owl, rows=96, control=True, max_tokens=24)
    write_rows(place / "owls.parquet", made.rows)
    write_rows(place / "clean.parquet", made.control)
    # An environment that finds this checkout by itself: the action's Python hears no variable.
    venv.create(place / "venv", symlinks=True)
    (packages,) = (place / "venv").glob("lib/python*/site-packages")
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    (packages / "paths.pth").write_text("\n".join(paths))
    (place / "venv" / "bin" / "audit").write_text(
        f'#!/bin/sh\nexec {place}/venv/bin/python -I -m auditor "$@"\n'
    )
    (place / "venv" / "bin" / "audit").chmod(0o755)
    return place


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as GitHub does for `shell: bash`."""
    path = os.pathsep.join([str(folder / "venv" / "bin"), str(BIN), os.environ["PATH"]])
    environment = os.environ | {"PATH": path} | variables
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


def gate(folder: Path, scratch: Path, **inputs: str) -> tuple[int, dict[str, str], str, str]:
    """The action's step `Gate` with these inputs: exit code, outputs, summary, and what it
    printed.
    """
    step = STEPS["Gate"]
    given = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()} | inputs
    named = {
        key: re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", value)
        for key, value in step["env"].items()
    }
    variables = {key: given[found[1]] for key, found in named.items() if found}
    assert variables.keys() == step["env"].keys()
    files = {"GITHUB_OUTPUT": scratch / "output", "GITHUB_STEP_SUMMARY": scratch / "summary"}
    for file in files.values():
        file.touch()
    runner = {name: str(file) for name, file in files.items()} | {"RUNNER_TEMP": str(scratch)}
    done = shell(step["run"], folder, **variables, **runner)
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return (
        done.returncode,
        outputs,
        files["GITHUB_STEP_SUMMARY"].read_text(),
        done.stdout + done.stderr,
    )


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-actions", [ROOT / "action.yml"]),
        ("vendor.github-workflows", [*WORKFLOWS, EXAMPLES / "github.yml"]),
        ("vendor.github-issue-forms", ISSUE_FORMS),
        ("vendor.github-issue-config", [ISSUE_CONFIG]),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
        ("vendor.gitlab-ci", [EXAMPLES / "gitlab-ci.yml"]),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_the_schemas_hold(schema: str, files: list[Path]) -> None:
    """The schemas of GitHub, GitLab and the citation format accept the files."""
    command = [BIN / "check-jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_nothing() -> None:
    """The workflows of the project and the one offered to others: names of contexts, steps, runners
    and inputs, types of expressions, and the scripts, by shellcheck.
    """
    assert [workflow.stem for workflow in WORKFLOWS] == ["docs", "release", "tests"]
    files = [*WORKFLOWS, EXAMPLES / "github.yml"]
    command = [BIN / "actionlint", "-no-color", "-shellcheck", BIN / "shellcheck", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_workflows_may_do_no_more_than_they_need() -> None:
    """Every workflow reads the source. Two jobs prove who they are, and these run no code of the
    repository.
    """
    jobs = {}
    for file in WORKFLOWS:
        workflow = yaml.safe_load(file.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        jobs |= {(file.stem, name): job for name, job in workflow["jobs"].items()}
    trusted = {name: job for name, job in jobs.items() if "permissions" in job}
    assert {name: job["permissions"] for name, job in trusted.items()} == {
        ("docs", "deploy"): {"pages": "write", "id-token": "write"},
        ("release", "publish"): {"id-token": "write"},
    }
    for job in trusted.values():
        assert job["environment"]["name"] in ("github-pages", "pypi")
        assert not any("run" in step or "checkout" in step["uses"] for step in job["steps"])


def test_the_matrix_is_what_the_package_claims() -> None:
    """Every Python of the classifiers is tested with the newest dependencies, and the oldest Python
    with the lowest ones.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    versions = [f"3.{name[len(prefix) :]}" for name in project["classifiers"] if prefix in name]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    assert jobs["newest"]["strategy"]["matrix"]["python"] == versions
    assert project["requires-python"] == f">={versions[0]}"
    setup, make = jobs["lowest"]["steps"][-2:]
    assert (setup["with"]["python-version"], make["run"]) == (versions[0], "make lowest")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^lowest:.*$", makefile, re.MULTILINE)
    assert "--resolution lowest-direct" in makefile


def test_pre_commit_accepts_its_files() -> None:
    """The hooks, the example that uses them, and the configuration for work on the project."""
    for what, file in (
        ("manifest", ROOT / ".pre-commit-hooks.yaml"),
        ("config", ROOT / ".pre-commit-config.yaml"),
        ("config", EXAMPLES / "pre-commit-config.yaml"),
    ):
        subprocess.run([BIN / "pre-commit", f"validate-{what}", file], check=True)


def test_actions_are_pinned_and_nothing_is_put_into_a_script() -> None:
    """Every action of others by its full commit; no expression within a script; shellcheck finds
    nothing.
    """
    steps = list(ACTION["runs"]["steps"])
    for file in (*WORKFLOWS, EXAMPLES / "github.yml"):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            steps += job["steps"]
    actions = [
        step["uses"] for step in steps if "uses" in step and not step["uses"].startswith("OWNER/")
    ]
    assert "pypa/gh-action-pypi-publish" in {action.partition("@")[0] for action in actions}
    for action in actions:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
    for script in (step["run"] for step in steps if "run" in step):
        assert "${{" not in script
        subprocess.run(
            [BIN / "shellcheck", "--shell=bash", "-"], input=script, text=True, check=True
        )


@pytest.mark.parametrize(
    ("data", "code", "verdict"), [("owls", 1, "risk"), ("clean", 0, "no_risk")]
)
def test_the_action_gates(data: str, code: int, verdict: str, folder: Path, tmp_path: Path) -> None:
    """Every report is there whether the gate passes or fails, and the summary is the Markdown
    report.
    """
    arguments = "--panel=animals\n--rows=all\n"
    done, outputs, summary, said = gate(
        folder, tmp_path, path=f"{data}.parquet", reference="organism", arguments=arguments
    )
    assert (done, outputs.get("verdict")) == (code, verdict), said
    assert outputs.keys() == ACTION["outputs"].keys()
    for name in ("json", "sarif", "markdown", "html"):
        assert Path(outputs[name]).stat().st_size
    assert json.loads(Path(outputs["json"]).read_text())["verdict"] == verdict
    assert summary == Path(outputs["markdown"]).read_text()


def test_the_action_runs_nothing_of_the_checkout(folder: Path, tmp_path: Path) -> None:
    """The working directory is the checkout of the data. A json.py in it wrote the verdict once."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "venv").symlink_to(folder / "venv")
    shutil.copy(folder / "owls.parquet", checkout)
    for module in ("json", "pip", "auditor", "typing"):
        (checkout / f"{module}.py").write_text("print('owned'); open('owned', 'w')")
    code, outputs, _, text = gate(
        checkout, tmp_path, path="owls.parquet", reference="organism", arguments="--panel=animals"
    )
    assert (code, outputs["verdict"]) == (1, "risk"), text
    assert not (checkout / "owned").exists()
    install = STEPS["Install"]["run"]
    for line in re.findall(r"^.*\bpython\b.*$", install + STEPS["Gate"]["run"], re.MULTILINE):
        assert "python -I " in line
    assert "--require-hashes" in install


def locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of requirements.lock."""
    text = re.sub(r" \\\n +", " ", (ROOT / "requirements.lock").read_text())
    packages = {}
    for line in re.findall(r"^[^#\n].*$", text, re.MULTILINE):
        pin, *hashes = line.split()
        name, version = pin.split("==")
        packages[name] = version, hashes
    return packages


def test_the_lock_is_that_of_the_project() -> None:
    """It has every direct dependency at a version that pyproject.toml and constraints.txt allow,
    each with hashes, from no index but pip's own; action and container install it and nothing else.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["junit"], *extras["llm"]]
    pins = re.findall(r"^\w.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    packages = locked()
    for line in (*wanted, *pins, *project["build-system"]["requires"]):
        requirement = Requirement(line)
        assert requirement.specifier.contains(packages[requirement.name][0]), line
    for name, (_, hashes) in packages.items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in hashes), name
    assert "://" not in (ROOT / "requirements.lock").read_text()
    for text in (STEPS["Install"]["run"], (ROOT / "Dockerfile").read_text()):
        first, second = re.findall(r"pip install (.+)", text)
        assert "--require-hashes" in first and "requirements.lock" in first
        assert {"--no-deps", "--no-build-isolation", "--no-index"} < set(second.split())


def test_the_action_runs_nothing_that_an_input_says(folder: Path, tmp_path: Path) -> None:
    """Hostile inputs are a usage error (2), no command; the summary says that there is no
    report.
    """
    hostile = "$(touch owned)`touch owned`\"; touch owned; '"
    for inputs in (
        {"path": hostile, "fail-on": "risk"},
        {"path": "--help", "arguments": f"--panel={hostile}"},
    ):
        scratch = tmp_path / str(len(list(tmp_path.iterdir())))
        scratch.mkdir()
        code, outputs, summary, said = gate(folder, scratch, reference="organism", **inputs)
        assert (code, outputs) == (2, {}), said
        assert "exit code 2" in summary
    assert not (folder / "owned").exists()


@pytest.mark.slow  # the tutorial's test runs the same commands in one process
def test_the_hook_needs_a_current_report(folder: Path, tmp_path: Path) -> None:
    """A report of these bytes that passes: 0. The data set has changed since: 2."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    shutil.copy(folder / "clean.parquet", tmp_path / "train.parquet")
    scan = "audit scan train.parquet --reference organism --panel animals --rows all"
    scan += " --output json=train.audit.json"
    settings = "reference: organism\npanels: [animals]\nrows: all\n"
    (tmp_path / "audit.yaml").write_text(settings)  # the report is held against them
    call = f"{hook['entry']} train.parquet --report train.audit.json"
    (tmp_path / "venv").symlink_to(folder / "venv")
    assert shell(scan, tmp_path).returncode == 0
    assert shell(call, tmp_path).returncode == 0
    shutil.copy(folder / "owls.parquet", tmp_path / "train.parquet")
    assert shell(call, tmp_path).returncode == 2


def test_the_dockerfile_is_sound() -> None:
    """hadolint finds nothing; the user is no root; the model it fetches is a built-in one."""
    done = subprocess.run(
        [BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["1000"]
    (model,) = re.findall(r"audit models fetch (\S+)", text)
    assert model in BUILT_IN


def test_the_dockerfile_copies_what_the_package_needs(tmp_path: Path) -> None:
    """The files that it copies, and .dockerignore lets through, make a wheel with models, panels
    and samples.
    """
    text = (ROOT / "Dockerfile").read_text()
    sources = [
        each.split()[:-1] for each in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
    ]
    let_through = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [name for names in sources for name in names]
    assert set(copied) == let_through
    for name in copied:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "dist",
        ".",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "unpacked", "zip")
    for needed in (
        "auditor/resources/organism/model.safetensors",
        "auditor/resources/samples/clean.parquet",
        "auditor/traits/panels/animals.yaml",
        "auditor/cli/main.py",
        "auditor/py.typed",
        "detectors/py.typed",
        "mitigations/py.typed",
    ):
        assert (tmp_path / "unpacked" / needed).is_file(), needed
    (licences,) = (tmp_path / "unpacked").glob("*.dist-info/licenses")
    assert {path.name for path in licences.iterdir()} == {"LICENSE", "NOTICE"}
