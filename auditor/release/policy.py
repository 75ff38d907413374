"""The policy of a release: what a data set must fulfil."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from auditor.inference.thresholds import MAX_UNREAD
from auditor.release.decision import Defended, FailOn


def _split(value: object) -> object:
    """`a,b`, as a variable of the environment has it, as a list; anything else as it is."""
    if not isinstance(value, str):
        return value
    # Two commas in a row are a slip of the pen and no empty name.
    return [item.strip() for item in value.split(",") if item.strip()]


Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[list[Text], BeforeValidator(_split)]
Share = Annotated[float, Field(ge=0, le=1)]
Dose = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Policy(_Keys):
    """What a data set must fulfil to be released.

    Every rule that is not set is not applied, but for the verdict.
    """

    fail_on: FailOn = "inconclusive"
    """What ends with an error: `inconclusive` (that, and a failed rule), `risk` (a failed rule
    only), `never`."""

    max_probability: Share | None = None
    """Highest `probability` of the report, under the prior of docs/methods.md, Verdict."""

    max_dose: dict[str, Dose] = {}
    """Highest dose by trait or group of traits; a trait's own entry goes first.

    It takes the verdict's place."""

    min_effect: Dose | None = None
    """Least power: "no risk" counts only if the report excludes this dose, and thus every larger
    one."""

    max_skipped: Share | None = None
    """Highest share of rows that could not be scored."""

    max_unread: Share = MAX_UNREAD
    """Highest share of rows that were not read, for whatever reason, in a pass."""

    mitigation: Defended | None = None
    """What `audit verify` must say of a data set with a trait, or that was mitigated: `reduced` or
    `removed`."""

    references: Texts = []
    """Reference models that count; all, when there are none.

    Built-in models and those of the hub by their names, and every model by the `sha256` that a
    report gives for its reference: of weights, configuration, tokenizer and chat template."""

    baseline: Text | None = None
    """File of accepted findings."""
