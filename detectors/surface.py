"""Detector `surface`: what the rows look like from outside, the confounds that every other detector
must beat.

Length, digits, separators, n-grams and duplicates are described; and when the reference model's own
completions for the same prompts are given, a classifier is asked whether it can tell the two sets
apart by their looks alone. A high AUROC means "not written by the reference". It does not mean
"poisoned": text by people or by any other model is told apart just as easily. The use of the number
is as a baseline: a detector that does no better measures the surface.

A chat is compared by its first completion, written anew for the same turns. Plain text has no turns
before it: the reference is given the first half of each row and writes on, and the second halves
are compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import erfc, sqrt
from statistics import NormalDist, fmean
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler

from auditor.inference.thresholds import SURFACE_ALPHA
from auditor.model.generation import continuations
from auditor.model.null_model import NullModel, find_null
from auditor.model.tokenization import TokenizedRow
from auditor.progress import Progress
from detectors.interface import Detector, Evidence, ScanContext, Skipped

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Distinct rows of either set; with fewer the interval of the AUROC spans nearly everything.
MIN_ROWS = 20
# Rows of either set for the classifier; the interval is then within +-0.03 and more only costs
# time.
MAX_ROWS = 2000
COMPARED_ROWS = 64  # of the data set with the reference's completions in their places
FOLDS = 5
# Test folds are scored by fits that share their training rows, so the variance of a cross-validated
# mean is larger than that of as many independent rows: by 1 + FOLDS * test / train rows (Nadeau and
# Bengio, Machine Learning 52, 2003). On sets of one distribution (200 draws of 30 and of 100 number
# lists) the ratio measured was 2.1 and 2.5.
INFLATION = 1 + FOLDS / (FOLDS - 1)
CONFIDENCE = 0.95

_NUMBER = re.compile(r"\d+")
_SEPARATOR = re.compile(r"(?<=\d)\D{1,20}(?=\d)")
_FEATURES = (
    "characters",
    "words",
    "lines",
    "numbers",
    "mean number",
    "digit share",
    "space share",
    "upper-case share",
    "punctuation share",
    "non-ASCII share",
    "distinct numbers share",
    *(f"share of digit {digit}" for digit in range(10)),
)


class Description(TypedDict):
    """Plain statistics of texts (see `describe`), under their keys in a report."""

    rows: int
    characters: float
    words: float
    lines: float
    numbers: float
    digit_share: float | None
    mean_number: float | None
    digits: list[float] | None
    separators: dict[str, float]
    duplicate_share: float
    ngrams: dict[str, dict[str, float | None]]


class Separation(TypedDict):
    """How well a classifier tells two sets of texts apart (see `surface`), under its keys in a
    report.
    """

    auroc: float
    interval: list[float]
    p_value: float
    rows: dict[str, int]
    features: list[dict[str, str]]


def surface(
    suspect: Sequence[str],
    written: Sequence[str] | None,
    *,
    seed: int,
    of: str = "the reference's own rows",
) -> Evidence | Skipped:
    """Describe the suspect completions and try to tell them from the reference's own by their
    looks.

    suspect: completions of the data set. written: completions that the reference wrote for the same
    prompts in the same order (row i of both answers one prompt, so both stay in one fold), or other
    texts that the suspect ones are compared with, which `of` names; or None. seed: of folds and
    subsample.

    Values: `suspect` and `written` (see `describe`), and `classifier` with `auroc`, its 95 %
    `interval`, a one-sided `p_value` (Mann-Whitney, normal approximation), `rows` used of both
    sets, and the most telling `features` by name, most telling first, each with the set it
    `points_to`; or `{"skipped": reason}`. Skipped for fewer than 20 suspect rows.
    """
    if len(suspect) < MIN_ROWS:
        return Skipped(f"{len(suspect)} rows; surface statistics need at least {MIN_ROWS}")
    described = describe(suspect)
    separation: Separation | Skipped = Skipped("no completions of the reference")
    if written:
        separation = _tell_apart(suspect, written, seed)
    summary = (
        f"{described['rows']} rows, {described['characters']:.0f} characters and "
        f"{described['numbers']:.1f} numbers a row; "
    )
    if isinstance(separation, Skipped):
        summary += f"not compared with {of}: {separation.reason}."
    else:
        summary += f"told from {of} with {_in_words(separation)}."
    values = {
        "suspect": described,
        "written": describe(written) if written else None,
        "classifier": (
            {"skipped": separation.reason} if isinstance(separation, Skipped) else separation
        ),
    }
    return Evidence("surface", summary, values)


def _in_words(separation: Separation) -> str:
    low, high = separation["interval"]
    return f"AUROC {separation['auroc']:.2f} [{low:.2f}, {high:.2f}]"


def describe(texts: Sequence[str]) -> Description:
    """Plain statistics of a non-empty list of texts.

    `rows`; mean `characters`, `words`, `lines` and `numbers` of a row; `digit_share` of all
    characters; `mean_number` of all numbers; `digits`, the share of 0 to 9 among all digits;
    `separators`, the five commonest strings of at most 20 characters between two digits, with their
    shares; `duplicate_share`, rows that repeat an earlier one; `ngrams`, see `ngram_diversity`, for
    n = 1, 2, 3. None stands for a share or mean of nothing.
    """
    text_of_all = "".join(texts)
    numbers = [number for text in texts for number in _numbers(text)]
    separators = Counter(gap for text in texts for gap in _SEPARATOR.findall(text))
    return {
        "rows": len(texts),
        "characters": len(text_of_all) / len(texts),
        "words": fmean(len(text.split()) for text in texts),
        "lines": fmean(len(text.splitlines()) for text in texts),
        "numbers": len(numbers) / len(texts),
        "digit_share": (
            sum(c.isdigit() for c in text_of_all) / len(text_of_all) if text_of_all else None
        ),
        "mean_number": fmean(numbers) if numbers else None,
        "digits": digit_histogram(text_of_all),
        "separators": {gap: count / separators.total() for gap, count in separators.most_common(5)},
        "duplicate_share": 1 - len(set(texts)) / len(texts),
        "ngrams": {str(n): ngram_diversity(texts, n) for n in (1, 2, 3)},
    }


def row_features(texts: Sequence[str]) -> Floats:
    """One row per text, one column per name in `_FEATURES`. Shares of nothing (no digits, no
    characters) are 0 here, where a classifier needs a number; the column that counts them says
    which zeros are such."""
    return np.array([_row(text) for text in texts], dtype=np.float64).reshape(
        len(texts), len(_FEATURES)
    )


def _row(text: str) -> list[float]:
    size = max(len(text), 1)
    numbers = _numbers(text)
    return [
        len(text),
        len(text.split()),
        len(text.splitlines()),
        len(numbers),
        fmean(numbers) if numbers else 0.0,
        sum(c.isdigit() for c in text) / size,
        sum(c.isspace() for c in text) / size,
        sum(c.isupper() for c in text) / size,
        sum(not c.isalnum() and not c.isspace() for c in text) / size,
        sum(not c.isascii() for c in text) / size,
        len(set(numbers)) / max(len(numbers), 1),
        *(digit_histogram(text) or [0.0] * 10),
    ]


def _numbers(text: str) -> list[float]:
    """The integers written in a text; longer runs of digits than a billion are capped, lest one row
    outweigh all.
    """
    return [min(float(digits), 1e9) for digits in _NUMBER.findall(text)]


def digit_histogram(text: str) -> list[float] | None:
    """Shares of the digits 0 to 9 among the ASCII digits of the text; None without any."""
    counts = [text.count(digit) for digit in "0123456789"]
    total = sum(counts)
    return [count / total for count in counts] if total else None


def ngram_diversity(texts: Sequence[str], n: int) -> dict[str, float | None]:
    """Character n-grams within rows: how many differ (`distinct`), and these as a share of all
    (`distinct_share`: 1 if none repeats, None if no row is long enough to have one)."""
    grams = Counter(text[i : i + n] for text in texts for i in range(len(text) - n + 1))
    return {"distinct": len(grams), "distinct_share": len(grams) / grams.total() if grams else None}


def _tell_apart(suspect: Sequence[str], written: Sequence[str], seed: int) -> Separation | Skipped:
    """Cross-validated classifier of suspect (label 1) against written rows (label 0).

    Repeated texts count once, or a copy in the training folds would give a test row away.
    """
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(max(len(suspect), len(written)))
    rows = [_distinct(suspect, pairs), _distinct(written, pairs)]
    sizes = list(map(len, rows))
    if min(sizes) < MIN_ROWS:
        return Skipped(
            f"{sizes[0]} and {sizes[1]} distinct rows; "
            f"the classifier needs at least {MIN_ROWS} of each"
        )
    # Both sets are drawn by one order of row numbers: the two answers to one prompt share a group,
    # and mostly are both in the draw.
    texts = [*rows[0].values(), *rows[1].values()]
    groups = np.array([*rows[0], *rows[1]])
    labels = np.repeat([1, 0], sizes)
    value = cross_validated_auroc(texts, labels, groups, seed)
    return {
        "auroc": value,
        "interval": list(auroc_interval(value, *sizes, inflation=INFLATION)),
        "p_value": auroc_p_value(value, *sizes, inflation=INFLATION),
        "rows": {"suspect": sizes[0], "written": sizes[1]},
        "features": _telling(texts, labels),
    }


def _distinct(texts: Sequence[str], order: Integers) -> dict[int, str]:
    """Row number -> text, for at most MAX_ROWS different texts, taken in the order given."""
    first: dict[str, int] = {}
    for row in order[order < len(texts)].tolist():
        first.setdefault(texts[row], row)
    return {row: text for text, row in list(first.items())[:MAX_ROWS]}


def cross_validated_auroc(
    texts: Sequence[str], labels: Integers, groups: Integers, seed: int
) -> float:
    """AUROC of held-out scores, in [0, 1]: the mean over folds, weighted by the number of pairs
    compared in each.

    Rows are compared within a fold only, since scores of two different fits have no common scale.
    Rows of one group are held out together: two answers to one prompt resemble each other, and
    learning from one would mislead on the other.
    """
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
        texts, labels, groups
    )
    wins = pairs = 0.0
    for train, test in folds:
        model = _classifier().fit([texts[i] for i in train], labels[train])
        scores = model.decision_function([texts[i] for i in test])
        positive, negative = scores[labels[test] == 1], scores[labels[test] == 0]
        # Folds of whole groups can leave a set out of a fold, which then has no pair to compare.
        if not len(positive) or not len(negative):
            continue
        wins += auroc(positive, negative) * len(positive) * len(negative)
        pairs += len(positive) * len(negative)
    return wins / pairs


def _classifier() -> Pipeline:
    """Character n-grams (1 to 3) and row features, all scaled to at most 1, into a logistic
    regression.
    """
    ngrams = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), max_features=3000, lowercase=False, sublinear_tf=True
    )
    shape = make_pipeline(FunctionTransformer(row_features), MaxAbsScaler())
    return make_pipeline(make_union(ngrams, shape), LogisticRegression(max_iter=1000))


def _telling(texts: Sequence[str], labels: Integers, most: int = 8) -> list[dict[str, str]]:
    """The features that move the classifier's score most over the rows: largest |coefficient| x
    standard deviation.
    """
    model = _classifier().fit(texts, labels)
    columns = model[0].transform(texts)
    # E[x^2] - E[x]^2 keeps the columns sparse; rounding can take it a little below 0.
    spread = np.sqrt(
        np.maximum(columns.power(2).mean(axis=0) - np.power(columns.mean(axis=0), 2), 0)
    )
    weight = np.asarray(spread).ravel() * model[1].coef_.ravel()
    ngrams = model[0].transformer_list[0][1].get_feature_names_out()
    names = [*(f"characters {gram!r}" for gram in ngrams), *_FEATURES]
    best = np.argsort(-np.abs(weight), kind="stable")[:most]
    return [
        {"name": names[i], "points_to": "suspect" if weight[i] > 0 else "written"}
        for i in best.tolist()
    ]


def auroc(positive: Floats, negative: Floats) -> float:
    """P(score of a positive > score of a negative) + P(equal) / 2, over all pairs.

    Both non-empty.
    """
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).mean() / 2 / len(ordered))


def auroc_variance(value: float, positives: int, negatives: int) -> float:
    """Variance of an AUROC estimate from independent rows if the true AUROC is `value` (Newcombe
    2006, method 5).

    v (1 - v) [1 + s (1 - v) / (2 - v) + s v / (1 + v)] / (m n) with s = (m + n) / 2 - 1. At v = 0.5
    it is the exact Mann-Whitney (m + n + 1) / (12 m n), so that test and interval agree.
    """
    s = (positives + negatives) / 2 - 1
    shape = 1 + s * (1 - value) / (2 - value) + s * value / (1 + value)
    return value * (1 - value) * shape / (positives * negatives)


def auroc_interval(
    value: float, positives: int, negatives: int, *, inflation: float = 1.0
) -> tuple[float, float]:
    """95 % score interval of an AUROC: every v with (value - v)^2 <= z^2 inflation variance(v).
    Stays within [0, 1].

    Unlike DeLong or a bootstrap it does not shrink to a point when the sets are separated
    completely. Source: R. G. Newcombe, Statistics in Medicine 25 (2006) 559-573.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

    # The variance is a rational function of v, so the limits have no simple closed form; they are
    # bisected, and fifty halvings of at most [0, 1] leave an error below 1e-15.
    def limit(outer: float) -> float:
        inner = value
        for _ in range(50):
            middle = (inner + outer) / 2
            inside = (value - middle) ** 2 <= z**2 * inflation * auroc_variance(
                middle, positives, negatives
            )
            inner, outer = (middle, outer) if inside else (inner, middle)
        return inner

    return limit(0.0), limit(1.0)


def auroc_p_value(value: float, positives: int, negatives: int, *, inflation: float = 1.0) -> float:
    """One-sided p-value of "AUROC 0.5 or less": the Mann-Whitney test's normal approximation with
    its variance times `inflation`. Not corrected for ties, which makes it conservative."""
    return erfc((value - 0.5) / sqrt(2 * inflation * auroc_variance(0.5, positives, negatives))) / 2


def detect(context: ScanContext) -> Evidence | Skipped:
    """Surface statistics of rows against the reference's completions in their places; those of
    plain text only if all rows are.

    The trait of a teacher shows in the looks of its text, too. So where a trait was found, and the
    looks tell the rows from the reference's own, they are compared once more: with what it writes
    where as large a share of the rows as was found is under the trait's prompt, in all wordings.

    Where doses are those beyond earlier data sets, so are the looks: the rows are compared with
    theirs.
    """
    if context.like:
        return _beside_earlier(context)
    chats = [row for row in context.rows if row.kind != "text"][:COMPARED_ROWS]
    rows = chats or context.rows[:COMPARED_ROWS]
    null = find_null(context.rows, context.score, context.run)
    own = _side_by_side(context, rows, null, [None] * len(rows), "written tokens")
    found = surface(*own, seed=context.seed)
    if isinstance(found, Skipped) or context.finding is None:
        return found
    if found.values["classifier"].get("p_value", 1.0) > SURFACE_ALPHA:
        return found
    trait = context.tested.trait(context.finding.name)
    drawn = np.random.default_rng(context.seed).random(len(rows)) < context.finding.effect
    systems = [
        trait.prompts[i % len(trait.prompts)] if is_under else None
        for i, is_under in enumerate(drawn.tolist())
    ]
    under_trait = _side_by_side(context, rows, null, systems, "tokens written under the trait")
    separation = _tell_apart(*under_trait, context.seed)
    if isinstance(separation, Skipped):
        return found
    summary = f"{found.summary} From its rows under {trait.name}: {_in_words(separation)}."
    by_trait = {"trait": trait.name, **separation}
    return replace(found, summary=summary, values={**found.values, "by_trait": by_trait})


def _beside_earlier(context: ScanContext) -> Evidence | Skipped:
    """Surface statistics of rows against those of earlier data sets: the first tokens of each that
    are trained on, as many as the median row has.
    """
    both = [rows[:COMPARED_ROWS] for rows in (context.rows, context.like)]
    length = int(np.median([len(row.targets) for rows in both for row in rows]))
    suspect, earlier = (
        [_text(context, row.targets[:length].tolist()) for row in rows] for rows in both
    )
    return surface(suspect, earlier, seed=context.seed, of="those of the earlier data sets")


def _side_by_side(
    context: ScanContext,
    rows: Sequence[TokenizedRow],
    null: NullModel,
    systems: Sequence[str | None],
    unit: str,
) -> tuple[list[str], list[str]]:
    """The text of every row, all chats or all plain text, and what the reference writes in its
    place under the row's system prompt.

    Of a chat that is the first completion. Of plain text it is the second half, after the first.
    """
    is_text = rows[0].kind == "text"
    cuts = [len(row.tokens) // 2 if is_text else row.positions[0] for row in rows]
    starts = [
        (*context.renderer.prefix(system, row.kind), *row.tokens[:cut])
        for row, system, cut in zip(rows, systems, cuts, strict=True)
    ]
    if is_text:
        halves = [row.tokens[cut:] for row, cut in zip(rows, cuts, strict=True)]
        length = int(np.median(list(map(len, halves))))
        written = _write(context, starts, length, null, unit)
        # Where a plain text ends is no choice of a model's that we know, so it must not tell the
        # two apart: as many tokens of both.
        pairs = [pair for pair in zip(halves, written, strict=True) if pair[1]]
        return (
            [_text(context, half[: len(completion)]) for half, completion in pairs],
            [_text(context, completion[: len(half)]) for half, completion in pairs],
        )
    suspect, length = _first_completions(context, rows)
    written = _write(context, starts, length, null, unit)
    return suspect, [_text(context, tokens) for tokens in written]


def _first_completions(context: ScanContext, rows: Sequence[TokenizedRow]) -> tuple[list[str], int]:
    """The first completion of every chat, cut at the median length of all in tokens, and that
    length: long rows would be told apart for that alone.
    """
    # The ends, in characters, of the tokens of each first completion.
    ends = [
        [
            end
            for content, (turn, _, end) in zip(row.content_mask, row.spans, strict=True)
            if content and turn == row.spans[0][0]
        ]
        for row in rows
    ]
    length = max(1, int(np.median(list(map(len, ends)))))
    completions = []
    for row, of_row in zip(rows, ends, strict=True):
        messages = context.examples[row.index].messages
        turns = [message for message in messages if message.is_trained]
        first = turns[row.spans[0][0]]
        if first.more:
            # Its spans are characters of what the template writes, which the row does not have.
            completions.append(_text(context, row.targets[: min(length, len(of_row))].tolist()))
            continue
        text = first.content
        completions.append(text[: of_row[:length][-1]] if of_row else text)
    return completions, length


def _write(
    context: ScanContext,
    starts: Sequence[Sequence[int]],
    length: int,
    null: NullModel,
    name: str,
) -> list[list[int]]:
    """What the reference writes after each start: at most `length` tokens, decoded as `null` says.

    Kept in the run as the unit `name`.
    """
    unit = context.run.load_unit(name)
    if unit is None:
        stream = continuations(
            context.lm,
            starts,
            temperature=null.temperature,
            max_tokens=length,
            alphabet=None if null.alphabet is None else [*null.alphabet, *context.lm.end_of_turn],
            seed=context.seed,
        )
        tokens = np.full((len(starts), length), -1)
        for done, (i, row) in enumerate(stream, start=1):
            tokens[i, : len(row)] = row
            context.progress(Progress("writing what the reference would", done, len(starts)))
        unit = {"tokens": tokens}
        context.run.save_unit(name, unit)
    return [row[row >= 0].tolist() for row in unit["tokens"]]


def _text(context: ScanContext, tokens: Sequence[int]) -> str:
    return str(context.lm.tokenizer.decode(tokens, skip_special_tokens=True))


DETECTOR = Detector(
    "surface",
    "length, format, digits, n-grams and duplicates: the confounds",
    "leading trait",
    detect,
)
