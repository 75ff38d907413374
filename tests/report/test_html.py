"""The HTML report: what it says, that data cannot act in it, and that it works in a real
browser.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console, RenderableType

from auditor.attribution.result import (
    Agreement,
    CarryingLayers,
    Frozen,
    LayerResult,
    LocateReport,
    Moved,
    Share,
    Students,
)
from auditor.commands.diff import compare
from auditor.inference.effect import Effect, Ratio
from auditor.model.identity import ModelIdentity
from auditor.release.decision import Decision, Rule
from auditor.report.diff import to_html as diff_html
from auditor.report.gate import to_html as gate_html
from auditor.report.locate import terminal_page as locate_page
from auditor.report.locate import to_html as locate_html
from auditor.report.scan import charts, html, load
from auditor.report.shared.words import GLOSSARY, headline, sentence
from auditor.report.study import to_html as study_html
from auditor.report.verify import to_html
from auditor.scanning.scan_report import ExampleRow, ScanReport, TokenChoice, TokenSpan
from auditor.students.result import (
    ArmResult,
    Point,
    Training,
    TraitEffect,
    TransferResult,
    VerifyReport,
)
from auditor.study.report import StudyReport, assemble
from detectors.interface import Evidence, Skipped
from tests.study.test_report import ORIGIN, parts
from tests.support.sample_report import (
    EAGLE,
    INCONCLUSIVE,
    NO_RISK,
    OWL,
    RISK,
    consistent_report,
    hostile_report,
    prompts,
    sample_report,
)

page_of = load("html").render
SCRIPT = "<script>document.title = 'owned'</script>"
HOSTILE = [
    SCRIPT,
    "<img src=x onerror=alert(1)>",
    '" onfocus="alert(1)',
    "{{ 7 * 7 }}",
    "\u202e\x00\ud800",
    "</style>",
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync "
    "--no-first-run"
).split()
PHONE = {"width": 360, "height": 740}
LOOKS = [
    {
        "rows": 32,
        "leader": "owl",
        "effect": 0.3,
        "interval": [-0.4, 1.0],
        "weakest": None,
        "excluded": None,
    },
    {
        "rows": 64,
        "leader": "owl",
        "effect": 0.4,
        "interval": [0.0, 0.8],
        "weakest": "eagle",
        "excluded": 1.4,
    },
]
PLACES = [
    {"tokens": 100, "flagged": n, "interval": [n / 200, n / 50] if n else None} for n in range(10)
]


def tokens(number: int) -> tuple[TokenSpan, ...]:
    """Twelve tokens, of which `number` are divergence tokens and one is a tie."""
    choices = (TokenChoice("owl", " 7", 0.61, 0.61), TokenChoice("reference", " 3", 0.4, 0.25))
    flags = ["divergence"] * number + ["tie"] + [""] * (11 - number)
    return tuple(
        TokenSpan(f" {place}", flag, choices if flag else ()) for place, flag in enumerate(flags)
    )


def report() -> ScanReport:
    """A report with rows to sort, all kinds of evidence, and hostile text in its first row."""
    rows = [
        ExampleRow(10 * n, f"Prompt number {n}, {SCRIPT if n == 3 else 'please'}.", tokens(n))
        for n in range(3, -1, -1)
    ]
    values = {"looks": LOOKS}
    base = sample_report(RISK)
    assert isinstance(base.divergence, dict)
    return replace(
        base,
        divergence=base.divergence | {"counterfactuals": ["reference", "eagle"], "places": PLACES},
        detectors=base.detectors | {"trait": Evidence("trait", "strongest: owl", values)},
        examples=tuple(rows),
    )


CREATED = "2026-11-29T09:20:13Z"
ORGANISM = ModelIdentity("organism", "built-in", "0" * 64, "0" * 64, "0" * 64, "float32", "cpu")


def verify_report(trait: str | None = "owl") -> VerifyReport:
    """An experiment with an original and one defended data set."""

    def effect(value: float) -> Effect:
        return Effect(value, (value - 0.1, value + 0.1), (value, value))

    def arm(name: str, size: float) -> ArmResult:
        doses = [
            Point(n, effect(size * n / 8) if trait else None, None, None, None) for n in (0, 4, 8)
        ]
        traits = (TraitEffect("owl", "animals", effect(size), 3.0, 0.01, 0.04),)
        left = Ratio(0.2, (0.05, 0.4), None) if name != "original" else None
        return ArmResult(
            Training(name, 64, 900, 2.0, 2.1),
            tuple(doses),
            traits,
            1,
            left,
            "removed" if left else "transfer shown",
        )

    arms = (arm("original", 0.8), arm(SCRIPT, 0.15))
    clean = Training("clean", 64, 900, 2.0, 2.1)
    result = TransferResult(trait, True, arms, clean, 3, 3, 64, 8, (2.5, 2.5), ("A warning.",))
    return VerifyReport(
        result, {"original": "ab" * 32}, ORGANISM, {"seed": 0}, {"python": "3.11"}, CREATED
    )


def locate_report(trait: str = "owl", *, shown: bool = True) -> LocateReport:
    """Two layers of which the second carries a trait, and students of both."""

    def share(value: float) -> Share:
        return Share(value, (value - 0.05, value + 0.05))

    alone, moved = Effect(0.2, (0.1, 0.3), (0.2,)), Moved(0.1, 0.05, Effect(0.05, None, (0.05,)))
    layers = [
        LayerResult(n, share(n), share(n / 2), share(n / 2), share(n), alone, 1.0, (moved, moved))
        for n in range(2)
    ]
    frozen = Frozen("recipe", (1,), alone, Ratio(0.2, (0.05, 0.4), None), "removed", 2.0, 2.1)
    students = Students(
        *(Effect(0.8, (0.7, 0.9), (0.8,)), shown, 2.0, 2.1, (2.5, 2.5), 3, 64, 8),
        *((1,) if shown else (), (frozen,), (Agreement("entered", 3, 0.5, None, 1.0),), ()),
    )
    return LocateReport(
        *(trait, "reference", tuple(layers), CarryingLayers(1, 1, share(0.9), True), 16, 32),
        *((10.0, (9.0, 11.0)), 0.01, students, (f"{trait}.yaml",), (f"Mind {trait}.",)),
        *({f"{trait}.jsonl": "ab" * 32}, ORGANISM, {"seed": 0}, {"python": "3.11"}, CREATED),
    )


def diff_page(text: str = "owl") -> str:
    """Of a clean data set with one that has a trait, named `text`."""
    clean = replace(sample_report(NO_RISK), tests=prompts((replace(OWL, p_adjusted=0.5), EAGLE)))
    return diff_html(compare(clean, hostile_report(text), Skipped(text)))


def gate_page(text: str = "owl") -> str:
    """Of a policy of two rules on a report in which everything is named `text`."""
    decision = Decision((Rule("verdict", "failed", text), Rule("min_effect", "passed", text)))
    return gate_html(decision, hostile_report(text), f"policy from {text}", 1)


@cache
def study() -> StudyReport:
    return assemble(parts("owl"), ORIGIN)


def study_page(text: str = "owl") -> str:
    """Of all four parts, on a reference named `text`."""
    named = {"reference": {"name": text}, "datasets": {text: {}}}
    return study_html(study().values | named, study().figures)


# A page of each kind, with text from outside in it.
PAGES: dict[str, Callable[[str], str]] = {
    "scan": lambda text: page_of(hostile_report(text)),
    "gate": gate_page,
    "diff": diff_page,
    "locate": lambda text: locate_html(locate_report(text)),
    "verify": lambda text: to_html(verify_report()),
    "study": study_page,
}


class _Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("verdict", [RISK, NO_RISK, INCONCLUSIVE])
def test_the_verdict_is_the_report_s(verdict: Any) -> None:
    """The page has the verdict and the reason of the report, and no other verdict."""
    page = page_of(sample_report(verdict))
    assert f'<p class="badge">{headline(verdict)}</p>' in page
    assert sentence(verdict.reason) in page
    assert f'class="verdict {verdict.name}"' in page
    assert "What it does not mean" in page


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_adds_no_tag_and_no_attribute(text: str, kind: str) -> None:
    """Whatever names, prompts, tokens and reasons hold, the page has the tags and attributes it has
    without it.
    """

    def shape(page: str) -> list[tuple[str, list[str]]]:
        # The words of a command have a plain span each, of which there are as many as words.
        found = [(tag, sorted(attributes)) for tag, attributes in _Tags(page).found]
        return [tag for tag in found if tag != ("span", [])]

    page = PAGES[kind](text)
    assert shape(page) == shape(PAGES[kind]("plain"))
    assert page.encode()
    assert "49" not in PAGES[kind]("{{ 7 * 7 }}").split("<body>")[1].split("</h1>")[0]


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_is_loaded(kind: str) -> None:
    """No tag names a place outside the page but links to the glossary, and the policy forbids what
    a tag could load.
    """
    page = PAGES[kind]("owl")
    for tag, attributes in _Tags(page).found:
        assert tag not in {"img", "iframe", "object", "embed", "base"}
        assert not attributes.get("src")
        allowed = ("#", "data:", *[f"{GLOSSARY}#"] * (tag == "a"))
        assert (attributes.get("href") or "#").startswith(allowed)
        assert "style" not in attributes
    policy = next(each["content"] for _, each in _Tags(page).found if "http-equiv" in each)
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_parts_without_content_are_left_out() -> None:
    """A report of an earlier release, or of a scan that measured next to nothing, is still
    a page.
    """
    bare = replace(
        sample_report(INCONCLUSIVE),
        tests=prompts(()),
        examples=(),
        detectors={},
        divergence=Skipped("no rows"),
    )
    ids = {attributes.get("id") for _, attributes in _Tags(page_of(bare)).found}
    assert not ids & {"traits", "power", "divergence", "rows"}
    assert {"headline", "provenance"} <= ids
    old = page_of(sample_report())
    assert 'id="rows"' in old and 'role="tooltip"' not in old


def test_a_large_report_is_cut_and_says_so() -> None:
    """Rows, tokens and traits beyond the caps are counted instead of shown."""
    long = tuple(TokenSpan("x", "divergence") for _ in range(html.TOKENS_SHOWN + 7))
    rows = [
        ExampleRow(n, "p" * 10 * html.PROMPT_SHOWN if n == 0 else "p", tokens(0))
        for n in range(html.ROWS_SHOWN + 5)
    ]
    rows[0] = replace(rows[0], tokens=long)
    traits = tuple(replace(OWL, name=f"trait{n}") for n in range(html.TRAITS_SHOWN + 3))
    page = page_of(replace(report(), examples=tuple(rows), tests=prompts(traits)))
    assert "5 rows with fewer divergence tokens are left out" in page
    assert "… 7 more tokens" in page
    assert "3 traits with weaker evidence are left out" in page
    assert page.count("<li data-index") == html.ROWS_SHOWN
    assert len(page) < 1_000_000


def test_projection_falls_with_the_root_of_the_rows() -> None:
    """A bound of 1.4 about an estimate of 0.2 needs (1.2 / 0.4)^2 = 9 times the trait's 48 rows to
    reach 0.6.
    """
    weak = replace(EAGLE, effect=0.2, rows=48, eliminated_at=None)
    open_ = replace(sample_report(INCONCLUSIVE), tests=prompts((OWL, weak)))
    points = html.projection(open_, LOOKS, 0.6)
    assert points[0] == (64, pytest.approx(1.4))
    assert points[-1] == (pytest.approx(64 + 8 * 48), pytest.approx(0.6))
    assert html.projection(replace(open_, verdict=NO_RISK), LOOKS, 0.6) == []
    assert (
        html.projection(replace(open_, tests=prompts((OWL, replace(weak, effect=0.6)))), LOOKS, 0.6)
        == []
    )
    assert (
        html.projection(
            replace(open_, tests=prompts((OWL, replace(weak, eliminated_at=32)))), LOOKS, 0.6
        )
        == []
    )
    assert html.projection(open_, LOOKS[:1], 0.6) == []


def test_drawings_are_xml_and_stay_inside() -> None:
    """Every drawing parses, has words for those who cannot see it, and puts nothing outside its
    frame.
    """
    scale = charts.forest_scale((OWL, EAGLE))
    drawn = [
        charts.forest(5.0, (-9.0, 9.0), scale),
        charts.exclusion_plot(LOOKS, 0.6, [(64.0, 1.4), (256.0, 0.6)]),
    ]
    for text in [*drawn, charts.exclusion_plot(LOOKS[:1], 0.6), charts.divergence_plot(PLACES)]:
        root = ElementTree.fromstring(text)
        width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
        assert root.attrib["aria-label"]
        for each in root.iter():
            for name, limit in {
                "x1": width,
                "x2": width,
                "cx": width,
                "y1": height,
                "y2": height,
                "cy": height,
            }.items():
                assert 0 <= float(each.attrib.get(name, 0)) <= limit
    assert scale[0] <= 0 and scale[1] >= 1
    assert drawn[0].count("arrow") == 2 and "circle" not in drawn[0]


# -- in a browser ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser without a window; the tests that need one are skipped where there is none."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: install the extra dev"
    )
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def trouble() -> list[str]:
    """What the browser complained about or asked the network for."""
    return []


def opened(browser: Any, page: str, folder: Path, trouble: list[str], **options: Any) -> Any:
    """The page in a new tab; complaints and requests are noted in `trouble`."""
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    tab = browser.new_page(**options)
    tab.on("console", lambda message: trouble.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    tab.on(
        "request",
        lambda request: None if request.url == path.as_uri() else trouble.append(request.url),
    )
    tab.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))
    tab.goto(path.as_uri())
    return tab


def terminal_text(page: RenderableType) -> str:
    """A page as a terminal shows it."""
    console = Console(file=io.StringIO(), width=200)
    console.print(page)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def shown_rows(tab: Any) -> list[int]:
    return [
        int(each.get_attribute("data-index")) for each in tab.locator(".rows > li:visible").all()
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", PAGES)
def test_opens_without_errors_or_requests(
    browser: Any, tmp_path: Path, trouble: list[str], kind: str, scheme: str
) -> None:
    """Every page opens in both colour schemes without a complaint, a request, or a script of the
    data's.
    """
    page = PAGES[kind]("".join(HOSTILE))
    tab = opened(browser, page, tmp_path, trouble, color_scheme=scheme)
    assert trouble == []
    assert tab.title() != "owned"
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(18, 22, 27)") == (scheme == "dark")


def test_data_stays_text(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """A row that contains <script> shows it as text, and nothing of it runs."""
    tab = opened(browser, page_of(report()), tmp_path, trouble)
    assert SCRIPT in tab.locator(".prompt").first.inner_text()
    assert tab.locator(".rows script").count() == 0
    assert tab.title().startswith("RISK FOUND: owl")


def test_rows_can_be_sorted_and_filtered(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """Each order and each filter does what it says, and the count is told."""
    tab = opened(browser, page_of(report()), tmp_path, trouble)
    assert shown_rows(tab) == [30, 20, 10, 0]
    tab.get_by_label("Sort").select_option("row number")
    assert shown_rows(tab) == [0, 10, 20, 30]
    tab.get_by_label("Sort").select_option("highest share")
    assert shown_rows(tab) == [30, 20, 10, 0]
    tab.get_by_label("Marks").select_option("with divergence tokens")
    assert shown_rows(tab) == [30, 20, 10]
    tab.get_by_label("Contains").fill("NUMBER 2")
    assert shown_rows(tab) == [20]
    assert tab.locator("output").inner_text() == "1 of 4 rows"
    tab.get_by_label("Contains").fill("would choose")  # stands in what the marks say, not in a row
    assert shown_rows(tab) == []
    assert trouble == []


def test_the_keyboard_shows_both_teachers(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """Focus shows what each teacher would choose, arrows go on within the row, Tab to the next row,
    Escape hides.
    """
    tab = opened(browser, page_of(report()), tmp_path, trouble)
    tab.locator("select[name=flag]").focus()
    tab.keyboard.press("Tab")
    tips = tab.locator(".tip:visible")
    assert tips.count() == 1
    assert (
        tips.first.inner_text().split()
        == "Teacher would choose this token owl 7 61.0% 61.0% reference 3 40.0% 25.0%".split()
    )
    index = "document.activeElement.closest('li').dataset.index"
    tab.keyboard.press("ArrowRight")
    assert (tips.count(), tab.evaluate("document.activeElement.firstChild.data")) == (1, " 1")
    tab.keyboard.press("Escape")
    assert tips.count() == 0
    tab.keyboard.press("Tab")
    assert (tips.count(), tab.evaluate(index)) == (1, "20")
    tab.locator(".tok[tabindex]").first.hover()
    assert tips.count() == 2  # the one in focus and the one pointed at
    assert trouble == []


@pytest.mark.parametrize("kind", PAGES)
def test_fits_a_phone(browser: Any, tmp_path: Path, trouble: list[str], kind: str) -> None:
    """On a narrow screen the page does not scroll sideways, also with what a mark says in view and
    with long names.
    """
    for text in ("owl", "averylongnamewithoutanyspace" * 4):
        each = PAGES[kind](text)
        if kind == "scan":
            each = page_of(replace(report(), tests=prompts((replace(OWL, name=text), EAGLE))))
        tab = opened(browser, each, tmp_path, trouble, viewport=PHONE, has_touch=True)
        for mark in tab.locator(".tok[tabindex='0']").all():
            mark.tap()
            box = tab.locator(".tip:visible").first.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
        assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_what_a_mark_says_stays_in_a_wide_window(
    browser: Any, tmp_path: Path, trouble: list[str]
) -> None:
    """Also at the end of a line."""
    spans = (TokenSpan("x " * 60, ""), *tokens(1)[:1])
    page = page_of(replace(report(), examples=(ExampleRow(0, "", spans),)))
    tab = opened(browser, page, tmp_path, trouble, viewport={"width": 1000, "height": 700})
    tab.locator(".tok[tabindex]").focus()
    box = tab.locator(".tip:visible").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 1000
    assert tab.evaluate("document.documentElement.scrollWidth") == 1000


def test_prints(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """On paper there are no controls, on white, with what was folded away opened."""
    traits = tuple(replace(OWL, name=f"trait{n}") for n in range(html.TRAITS_OPEN + 5))
    tab = opened(
        browser,
        page_of(replace(report(), tests=prompts(traits))),
        tmp_path,
        trouble,
        color_scheme="dark",
    )
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not tab.locator(".controls").is_visible()
    assert not tab.locator("nav").is_visible()
    assert tab.get_by_text(f"trait{html.TRAITS_OPEN + 4}").is_visible()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.pdf().startswith(b"%PDF")


def many_rows(count: int = 40) -> ScanReport:
    """A risk report with more rows than are in view."""
    rows = [ExampleRow(n, f"Prompt {n}", tokens(3)) for n in range(count)]
    return replace(report(), examples=tuple(rows))


@pytest.mark.parametrize("kind", PAGES)
def test_the_first_screen_answers(
    browser: Any, tmp_path: Path, trouble: list[str], kind: str
) -> None:
    """What was decided, on what, and what to do next are in view before anybody scrolls; the next
    step is the first link as well.
    """
    page = page_of(many_rows()) if kind == "scan" else PAGES[kind]("owl")
    for size in ({"width": 1280, "height": 720}, {"width": 390, "height": 844}):
        tab = opened(browser, page, tmp_path, trouble, viewport=size)
        for part in (".badge", "#headline", ".tiles li:last-child", "#next pre, #next p"):
            box = tab.locator(part).first.bounding_box()
            assert box["y"] + box["height"] <= size["height"], part
        assert tab.locator("nav a").first.get_attribute("href") == "#next"
        for command in tab.locator("#next pre:visible").all():
            # What a reader selects is the command, however it is broken into lines.
            command.click()
            selected = tab.evaluate("getSelection().toString()")
            assert selected.strip() == command.text_content()


def test_more_rows_are_folded(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """Five are in view, the others behind one line; sorting and filtering are over all of them."""
    tab = opened(browser, page_of(many_rows()), tmp_path, trouble)
    assert shown_rows(tab) == [0, 1, 2, 3, 4]
    tab.get_by_text("Show all 40 rows").click()
    assert shown_rows(tab) == list(range(40))
    tab.get_by_text("Show all 40 rows").click()
    tab.get_by_label("Contains").fill("prompt 3")
    assert shown_rows(tab) == [3, 30, 31, 32, 33]
    assert tab.locator("output").inner_text() == "11 of 40 rows"
    calm = opened(browser, page_of(replace(many_rows(), verdict=NO_RISK)), tmp_path, trouble)
    assert shown_rows(calm) == [] and not calm.locator("#divergence svg").is_visible()


def test_prints_on_four_pages(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """With forty rows, the traits of the default panel, and settings as a scan has them."""
    found = consistent_report()
    by_name = {trait.name: trait for trait in found.traits}
    names = found.settings["tested"]
    traits = [by_name.get(name, replace(EAGLE, name=name)) for name in names]
    full = replace(many_rows(), settings=found.settings, tests=prompts(traits))
    pdf = opened(browser, page_of(full), tmp_path, trouble).pdf(format="A4")
    assert pdf.count(b"/Type /Page\n") in range(1, 5)


def test_works_without_script(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """Without JavaScript the rows and what their marks say are there; only the controls are not."""
    tab = opened(browser, page_of(report()), tmp_path, trouble, java_script_enabled=False)
    assert not tab.locator(".controls").is_visible()
    tab.locator(".tok[tabindex]").first.focus()
    assert tab.locator(".tip:visible").count() == 1


def test_every_page_has_one_head(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """One headline, one list of figures and one next step; headings go down one level at a time,
    and every link of the head leads into the page.
    """
    for make in PAGES.values():
        tab = opened(browser, make("owl"), tmp_path, trouble)
        for part in ("h1", ".badge", ".tiles", "#next", ".about"):
            assert tab.locator(part).count() == 1
        levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])")
        assert all(after - before <= 1 for before, after in pairwise(levels))
        for link in tab.locator("nav a").all():
            assert tab.locator(link.get_attribute("href")).count() == 1
        assert "2026-11-29 09:20 UTC" in tab.locator("main").inner_text()


def test_where_a_trait_enters(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """The page says what the terminal does, in its words; without transfer it is not green."""
    report = locate_report()
    tab = opened(browser, locate_html(report), tmp_path, trouble)
    text = " ".join(tab.locator("main").inner_text().split())
    for part in ("Layer 1 of 0-1 carries 90 % [85, 95]", "layer 1 frozen", "owl.yaml", "Mind owl."):
        assert part in text
    assert tab.locator("section.verdict.no_risk .badge").inner_text() == "LAYERS NAMED"
    terminal = terminal_text(locate_page(report))
    assert "Train with layer 1 frozen: owl.yaml in the run's" in " ".join(terminal.split())
    unsure = opened(browser, locate_html(locate_report(shown=False)), tmp_path, trouble)
    assert "NO TRANSFER SHOWN" in unsure.locator("section.inconclusive .badge").inner_text()
    phone = opened(browser, locate_html(report), tmp_path, trouble, viewport=PHONE)
    assert phone.get_by_text("Attention, %").locator("visible=true").count() == 0
    assert phone.locator("td[data-name='Both, %']").last.is_visible()


def test_the_experiment_s_page(browser: Any, tmp_path: Path, trouble: list[str]) -> None:
    """Before, after, what is left, the plot and the warnings; the open readout has no plot."""
    tab = opened(browser, to_html(verify_report()), tmp_path, trouble)
    text = " ".join(tab.locator("main").inner_text().split())
    for part in (
        "TRANSFER SHOWN: owl",
        "+0.800 [+0.700, +0.900]",
        "20% [5%, 40%]",
        "A warning.",
        SCRIPT,
    ):
        assert part in text
    assert tab.locator("#dose svg polyline").count() == 2
    phone = opened(browser, to_html(verify_report()), tmp_path, trouble, viewport=PHONE)
    for name in ("Verdict", "Left"):
        box = phone.locator(f"td[data-name={name}]").last.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    open_ = opened(browser, to_html(verify_report(None)), tmp_path, trouble)
    assert open_.locator("#dose").count() == 0
    assert trouble == []
