"""What an attack is judged by."""

from __future__ import annotations

import pytest

from tests.attacks.harness import AttackWorksError, Run, judge


def test_the_right_code_for_another_reason_is_not_right() -> None:
    """An error that has nothing to do with an attack would pass for its refusal."""
    refused = Run(2, "", "Error: the key 'policy'\nstands twice.\n")
    judge("refused", "'policy' stands twice", refused)
    with pytest.raises(AttackWorksError, match="does not say"):
        judge("refused", "'policy' stands twice", Run(2, "", "Error: No such file.\n"))


@pytest.mark.parametrize(
    "run",
    [
        Run(None, "", ""),
        Run(-11, "", ""),
        Run(2, "", "Error: Unexpected TypeError: twice"),
        Run(0, "twice", ""),
        Run(3, "twice", ""),
    ],
)
def test_what_is_no_refusal(run: Run) -> None:
    """No end in time, a signal, a bug, and other codes."""
    with pytest.raises(AttackWorksError):
        judge("refused", "twice|", run)


def test_what_is_to_be_named_stands_first() -> None:
    """A name at the end of a page is not read."""
    judge("named", "", Run(0, "PASSED\nnot read: column rationale\n", ""), ["rationale"])
    with pytest.raises(AttackWorksError):
        judge("named", "", Run(3, "PASSED\n" + "line\n" * 20 + "rationale", ""), ["rationale"])
