"""The frame of reports as one HTML file: no network, no style or script but its own, readable on a
phone, in print and in the dark.

The templates in report/page/ escape everything that comes out of an expression; `safe` first writes
out what could mislead a reader (control, bidirectional and zero-width characters). A content
security policy forbids all else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.report.shared.words import GLOSSARY, corrected, p_text, safe, two_decimals


def html_page(template: str, values: Mapping[str, object]) -> str:
    """The page that a template of report/page/ makes of the values.

    A drawing of our own, whose texts are escaped already, goes in as `Markup`.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("auditor.report", "page"),
        autoescape=True,
        finalize=_shown,  # runs on the value of every expression, before it is escaped
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "lines": _lines,
        "p": p_text,
        "percent": _percent,
        "dose": two_decimals,
        "corrected": corrected,
    }
    folder = files("auditor.report") / "page"
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    # The policy names style and script by their digests, so that nothing put into the page runs.
    policy = (
        f"default-src 'none'; style-src '{_source_hash(style)}'; "
        f"script-src '{_source_hash(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    # Our own style and script are no text from outside: as `Markup` they are not escaped.
    environment.globals |= {"style": Markup(style), "script": Markup(script), "policy": policy}
    environment.globals["glossary"] = GLOSSARY
    return environment


def _source_hash(text: str) -> str:
    """The SHA-256 of a style or a script, as a content security policy writes it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _shown(value: object) -> object:
    """What an expression may put on the page; Jinja escapes it afterwards."""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> str:
    """Text that keeps its line breaks."""
    return Markup("\n").join(safe(line) for line in text.split("\n"))


def _percent(share: float) -> str:
    """A probability in a few characters; never "0 %" for what is only rare."""
    return f"{share:.1%}" if share >= 5e-4 or share == 0 else "< 0.1%"
