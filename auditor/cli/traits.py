"""`audit traits`: which traits an audit looks for."""

from __future__ import annotations

from auditor.cli.options import Panels


def traits(
    panel: Panels = None,
) -> int:
    """List trait panels and their traits."""
    from rich.text import Text

    from auditor.cli.console import console, table
    from auditor.report.shared.words import safe
    from auditor.traits.panel import built_in, load_panels

    rows = table("panel", "trait", "group", "wordings")
    names = panel or built_in()
    for name in names:
        for trait in load_panels([name]).traits:
            rows.add_row(
                Text(safe(name)),
                Text(safe(trait.name)),
                Text(safe(trait.group)),
                str(len(trait.prompts)),
            )
    console().print(rows)
    return 0
