"""The program that renders chats: a process of its own, which imports Jinja and nothing of ours.

A chat template is a program that comes with a model. Jinja's sandbox keeps it from files and
modules, but not from loops without an end or from `'x' * 10**10`, and no thread can be stopped from
outside. So it runs here, with bounded memory, and `auditor.model.chat_template` ends the process
when it takes too long.

Each line of the input is a JSON object: "template" (the text, or null for that of the line before),
"variables", and "most_chars". Each is answered by a line with one key: "text", "refused" (the
template raises, with its reason) or "exceeded" (it needs more than it may).
"""

import contextlib
import json
import sys
from datetime import datetime
from typing import Any

MOST_BYTES = 2 * 2**30  # of memory, the interpreter's own included


def main() -> None:
    """Render until the input ends. The first argument is where Jinja is installed."""
    sys.path.append(sys.argv[1])
    with contextlib.suppress(ImportError, ValueError, OSError):  # there are systems without limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    environment = _environment()
    template: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["template"] is not None:
                template = None
                template = environment.from_string(request["template"])
            answer = _render(template, request["variables"], request["most_chars"])
        except MemoryError:
            answer = {"exceeded": "more memory"}
        except Exception as error:
            # Not those of Jinja only: `1 / 0` and a recursion without an end are the template's.
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            answer = {"refused": reason or type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _render(template: Any, variables: dict[str, Any], most_chars: int) -> dict[str, str]:
    pieces, chars = [], 0
    for piece in template.generate(**variables):
        pieces.append(piece)
        chars += len(piece)
        if chars > most_chars:
            return {"exceeded": "a longer text"}
    return {"text": "".join(pieces)}


def _environment() -> Any:
    """Jinja as transformers sets it up for chat templates, so that a row has the tokens that a
    trainer sees.
    """
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag that marks a model's turns; it writes what stands in it."""

        tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        # Jinja's own escapes HTML.
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


if __name__ == "__main__":
    main()
