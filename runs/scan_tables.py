"""Tables of many scans with known truth: runs/results.md, "Scans"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy import stats

from auditor.inference.interim import LOOKS
from auditor.inference.thresholds import TextProfile


def table(found: Sequence[dict[str, Any]], tested: int) -> str:
    """Shares over the draws of each source, with Clopper-Pearson intervals.

    tested: traits of the panel.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for each in sorted(found, key=lambda each: each["key"]):
        kind, trait, decoding, share, _, rows = each["key"].split("|")
        if "failed" not in each:
            groups.setdefault((kind, decoding, share, rows.zfill(4)), []).append(
                each | {"trait": trait}
            )
    lines = [
        "| data | decoding | poisoned share | rows | verdict risk | true trait first | "
        "inconclusive | seconds |"
    ]
    lines += ["|" + "---|" * 8]
    for (kind, decoding, share, rows), draws in sorted(groups.items()):
        poisoned = draws[0]["trait"] != "None"
        risk, open_ = (_count(draws, verdict) for verdict in ("risk", "inconclusive"))
        first = sum(each["first"] == each["trait"] for each in draws)
        cells = [kind, decoding, f"{float(share):.0%}" if poisoned else "0", str(int(rows))]
        cells += [
            share_of(risk, len(draws)),
            share_of(first, len(draws)) if poisoned else "-",
            str(open_),
        ]
        lines.append(
            "| "
            + " | ".join([*cells, f"{sum(each['seconds'] for each in draws) / len(draws):.0f}"])
            + " |"
        )
    clean = [each for draws in groups.values() for each in draws if each["trait"] == "None"]
    own = [each for each in clean if not each["key"].startswith("qwen")]
    if own:
        lines += [
            "",
            f"False alarms over all clean draws, Qwen's apart: "
            f"{share_of(_count(own, 'risk'), len(own))}.",
        ]
    return "\n".join([*lines, "", *curve(groups, tested), "", *beside(groups), ""])


def curve(groups: dict[tuple[str, ...], list[dict[str, Any]]], tested: int) -> list[str]:
    """What the looks of the longest scans saw: what a data set would have shown that ended there.
    Found counts a leader of any name.
    """
    lines = [
        "| data | decoding | poisoned share | rows | true trait first | found, by any name, if the "
        "data ended there |"
    ]
    lines += ["|" + "---|" * 6]
    for (kind, decoding, share, rows), draws in sorted(groups.items()):
        longest = max(count for *source, count in groups if source == [kind, decoding, share])
        draws = [each for each in draws if each["trait"] != "None" and each.get("looks")]
        if rows != longest or not draws:
            continue
        for count in LOOKS:
            if count > int(rows):
                continue
            last = [
                (each, [look for look in each["looks"] if look[0] <= count][-1]) for each in draws
            ]
            first = sum(leader == each["trait"] for each, (_, leader, _, _) in last)
            found = sum(
                _is_found(look, tested, TextProfile(each["greedy"]).min_reported_dose)
                for each, look in last
            )
            cells = [kind, decoding, f"{float(share):.0%}", str(count)]
            lines.append(
                "| "
                + " | ".join([*cells, *(share_of(each, len(last)) for each in (first, found))])
                + " |"
            )
    return lines if len(lines) > 2 else []


def _is_found(look: Sequence[Any], tested: int, least: float) -> bool:
    """Whether the leader of a look would be a finding at alpha = .01, were it the only look."""
    rows, _, effect, (low, high) = look
    error = (high - low) / 2 / stats.t.ppf(0.975, rows - 1)
    return effect >= least and float(stats.t.sf(effect / error, rows - 1)) * tested <= 0.01


def beside(groups: dict[tuple[str, ...], list[dict[str, Any]]]) -> list[str]:
    """Each detector beside `surface`, where more than `trait` was run."""
    lines = [
        "| data | decoding | draws | trait: p < .01 | fit: p < .01 "
        "| surface: p < .01, mean AUROC |",
        "|" + "---|" * 6,
    ]
    for (kind, decoding, share, _), draws in sorted(groups.items()):
        full = [each for each in draws if each["auroc"] is not None]
        if not full or share != "1.0":
            continue
        fits = sum(
            each["fit"] is not None and abs(each["fit"][1]) > stats.norm.isf(0.005) for each in full
        )
        surface = sum(each["surface_p"] < 0.01 for each in full)
        auroc = sum(each["auroc"] for each in full) / len(full)
        cells = [
            kind,
            decoding,
            str(len(full)),
            str(sum(each["p"] <= 0.01 for each in full)),
        ]
        lines.append("| " + " | ".join([*cells, str(fits), f"{surface}, {auroc:.2f}"]) + " |")
    return lines if len(lines) > 2 else []


def _count(draws: Sequence[dict[str, Any]], verdict: str) -> int:
    return sum(each["verdict"] == verdict for each in draws)


def share_of(count: int, total: int) -> str:
    """`3 of 40, 8 % [2, 20]`."""
    low, high = stats.binomtest(count, total).proportion_ci(method="exact")
    return f"{count} of {total}, {count / total:.0%} [{low:.0%}, {high:.0%}]"
