"""The documentation says what the program does: commands, exit codes, detectors and links are
checked against it.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer import Context, Exit
from typer.core import TyperGroup
from typer.main import get_command

from auditor.cli.main import INCOMPLETE, INTERRUPTED, USAGE_ERROR, app
from auditor.errors import AuditError
from auditor.scanning.scan_report import EXIT_CODES
from detectors import DETECTORS
from mitigations import MITIGATIONS
from runs import cli_docs

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
METHODS = ROOT / "docs" / "methods.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = (README, CONTRIBUTING, *sorted((ROOT / "docs").rglob("*.md")))
WRONG_ON_PURPOSE = ROOT / "docs" / "exit-codes.md"  # tests/cli/test_exit_codes.py runs its commands


def commands_in(text: str) -> list[str]:
    """Every `audit ...` command of a page: code within a line, and lines of code blocks, continued
    ones joined.
    """
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("audit ")]
    return list(dict.fromkeys([*re.findall(r"`(audit [^`\n]+)`", text), *lines]))


def parse(command_line: str) -> None:
    """Parse a command line without running it; a command without arguments is only being named.

    Raises KeyError for an unknown command, USAGE_ERROR for a wrong or missing
    option or argument.
    """
    _, *arguments = shlex.split(command_line, comments=True)
    context = Context(get_command(app), info_name="audit")
    while (
        isinstance(context.command, TyperGroup) and arguments and not arguments[0].startswith("-")
    ):
        name = arguments.pop(0)
        context = Context(context.command.commands[name], info_name=name, parent=context)
    with contextlib.suppress(Exit):  # --help and --version end the parsing
        if arguments and not arguments[0].endswith(
            "-completion"
        ):  # those act while they are parsed
            context.command.parse_args(context, arguments)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(path: Path) -> list[str]:
    """The headings of a page, without their marks."""
    return re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def broken_links(page: Path) -> list[str]:
    """Relative links of a page whose file or heading does not exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in map(slug, headings(target))):
            broken.append(link)
    return broken


def named_paths(page: Path) -> list[str]:
    """Files and folders of the repository that a page names in code: with a slash, and without
    blanks, options or a placeholder.
    """
    top = {path.name for path in ROOT.iterdir()}
    words = re.findall(r"`([\w.\-]+/[\w./\-]*)`", page.read_text(encoding="utf-8"))
    return [word for word in words if word.split("/")[0] in top]


def exit_codes() -> set[int]:
    """Every code that a command can end with."""
    errors = [AuditError]
    for error in errors:
        errors += error.__subclasses__()
    return {*EXIT_CODES.values(), INCOMPLETE, INTERRUPTED, *(error.exit_code for error in errors)}


@pytest.mark.skipif(
    not hasattr(typer, "TyperException"), reason="typer before 0.28 words help otherwise"
)
def test_the_command_line_pages_are_current() -> None:
    """docs/cli/ is what runs/cli_docs.py makes; run that script when this fails."""
    there = {path.name: path.read_text(encoding="utf-8") for path in cli_docs.FOLDER.iterdir()}
    assert there == cli_docs.pages()


def test_every_command_has_its_page() -> None:
    """And every sub-command a section on it."""
    made = cli_docs.pages()
    assert {"index.md", "scan.md", "demo.md", "models.md"} <= set(made)
    assert "## audit models fetch" in made["models.md"]
    assert all(f"({name})" in made["index.md"] for name in made if name != "index.md")


def test_the_checks_see_what_is_wrong(tmp_path: Path) -> None:
    """An unknown command, option or argument does not parse; a link to nothing is broken; codes are
    found anywhere.
    """
    with pytest.raises(KeyError):
        parse("audit nope x")
    for line in (
        "audit scan x --nope",
        "audit scan --seed 1",
        "audit scan x --seed -1",
        "audit simulate -o x",
    ):
        with pytest.raises(USAGE_ERROR):
            parse(line)
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`\n[a](page.md#one-two) [b](#one-two) [c](#three) [d](none.md) "
        "[e](https://x.org)\n"
    )
    assert broken_links(page) == ["#three", "none.md"]
    assert commands_in("Type `audit a`.\n\n```sh\naudit b  # c\n$ ls\n```\naudit d\n") == [
        "audit a",
        "audit b  # c",
    ]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != WRONG_ON_PURPOSE],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_commands_exist_and_their_options_parse(page: Path) -> None:
    """Every `audit ...` command of the README and the docs parses."""
    for line in commands_in(page.read_text(encoding="utf-8")):
        parse(line)


def test_the_readme_shows_commands() -> None:
    """The first scan, the first defence, the demo and the data of known truth are in the README."""
    commands = commands_in(README.read_text(encoding="utf-8"))
    promised = {"audit demo", "audit scan dataset.parquet", "audit mitigate --paraphrase --mix 0.5"}
    assert promised < set(commands)
    assert any(line.startswith("audit simulate") for line in commands)


def test_the_make_targets_of_the_readme_exist() -> None:
    """Set-up is exactly `make demo` and `make test`, both targets of the Makefile."""
    named = re.findall(r"^make (\w+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_folders_that_a_page_names_exist(page: Path) -> None:
    """A reader who follows a path arrives somewhere; the three maps have many."""
    paths = named_paths(page)
    assert len(paths) > 10 or page not in (README, CONTRIBUTING, ARCHITECTURE)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_names_of_python_that_the_pages_give_exist() -> None:
    """Every dotted name of our packages is a module, or something in one."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    names = set(re.findall(r"`((?:auditor|detectors|mitigations)(?:\.[A-Za-z]\w*)+)`", text))
    assert len(names) > 3
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_contributing_answers_the_first_questions() -> None:
    """Where a verdict is made, a trait scored, a row format read, a detector added: the files named
    hold what they are named for.
    """
    defined = {
        "auditor/scanning/verdict.py": "-> Verdict:",
        "detectors/trait.py": "DETECTOR = Detector(",
        "auditor/model/null_model.py": "class NullModel",
        "auditor/data/formats.py": '"alpaca"',
        "detectors/interface.py": "class Detector",
    }
    assert set(defined) < set(named_paths(CONTRIBUTING))
    for path, text in defined.items():
        assert text in (ROOT / path).read_text(encoding="utf-8"), path


def test_the_architecture_has_every_folder() -> None:
    """The table and the line of imports name all folders of `auditor/`, and the table no others;
    resources are no code and import nothing.
    """
    page = ARCHITECTURE.read_text(encoding="utf-8")
    # Folders of an older checkout may be left over with nothing in them that Python can import.
    folders = {path.parent.name for path in (ROOT / "auditor").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `auditor/(\w+)/` \|", page, re.MULTILINE)) == folders
    line = next(line for line in page.splitlines() if line.startswith("    errors"))
    assert folders - {"resources"} < set(re.findall(r"\w+", line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    """Every relative link leads to a file, and to a heading where it names one."""
    assert broken_links(page) == []


def test_every_detector_has_a_section() -> None:
    """docs/methods.md has one section for each detector of the registry and none for another, and
    the verdict's.
    """
    found = re.findall(r"^Detector `(\w+)`$", "\n".join(headings(METHODS)), re.MULTILINE)
    assert sorted(found) == sorted(DETECTORS)
    assert "Verdict" in headings(METHODS)


def test_constants_are_named_as_in_the_code() -> None:
    """Every constant that docs/methods.md names is assigned somewhere in the three packages."""
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", METHODS.read_text(encoding="utf-8")))
    assert len(named) > 20
    folders = [ROOT / package for package in ("auditor", "detectors", "mitigations")]
    source = "\n".join(
        path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")
    )
    assigned = set(re.findall(r"^([A-Z][A-Z_]+)(?:: [^=\n]+)? = ", source, re.MULTILINE))
    assert named - assigned == set()


def test_the_constants_have_the_values_of_the_code() -> None:
    """Those of the table that are one number; 1/3 is written as such."""
    text = (ROOT / "docs" / "constants.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([A-Z_]+)` \| ([\d./]+) \| `([\w.]+)` \|", text, re.MULTILINE)
    assert len(lines) > 25
    for name, value, module in lines:
        over, _, under = value.partition("/")
        found = getattr(importlib.import_module(module), name)
        assert found == float(over) / float(under or 1), name


def test_every_mitigation_has_a_section() -> None:
    """docs/mitigations.md has one section for each mitigation of the registry, in its order, and
    none for another.
    """
    page = "\n".join(headings(ROOT / "docs" / "mitigations.md"))
    assert re.findall(r"^Mitigation `(\w+)`$", page, re.MULTILINE) == list(MITIGATIONS)


def test_every_exit_code_is_named() -> None:
    """The README's table names exactly the codes that a command can end with."""
    table = re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(map(int, table)) == sorted(exit_codes())
