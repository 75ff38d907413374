"""Detectors: one file each, pure maths apart from model calls.

`DETECTORS` is the registry, in the order they run.
"""

from __future__ import annotations

DETECTORS: dict[str, str] = {
    "trait": "panel-centred likelihood ratio of every trait, corrected for their number",
    "tuned": "the same for copies of the reference tuned on each trait: for teachers with it in their weights",
    "divergence": "the paper's divergence tokens for the leading trait, or for a given teacher",
    "fit": "goodness of fit to the reference, or to a given teacher, at T=1",
    "first_step": "which answers one small training step on the data would move",
    "surface": "length, format, digits, n-grams and duplicates: the confounds",
}
ON_REQUEST = ("tuned",)  # it trains models, so only who asks for it waits
DEFAULT = tuple(name for name in DETECTORS if name not in ON_REQUEST)
