"""`audit gate --attest` and `--verify-attestation`: what the two options ask of the others, and the
line that is shown.
"""

from __future__ import annotations

from pathlib import Path

from typer import echo

from auditor.errors import AuditError
from auditor.release.policy import Policy


def check_options(attest: Path | None, key: Path | None) -> None:
    """Find what is wrong with the key before a scan is lost to it. Raises AuditError."""
    if key is None:
        return
    if attest is None:
        raise AuditError(
            "--key signs or checks a statement.", "Add --attest FILE, or leave it out."
        )
    from auditor.commands.attest import check_key

    check_key(key)


def verify(
    path: Path, dataset: str | None, policy: Policy, key: Path | None, *, is_alone: bool
) -> int:
    """Check the statement in `path`, print what it attests, and return 0.

    is_alone: that nothing else was asked of the gate. Raises AuditError where something was, or
    where the statement does not hold.
    """
    from auditor.commands.attest import verify_attestation
    from auditor.report.shared.words import safe

    if dataset is None or not is_alone:
        raise AuditError(
            "--verify-attestation takes the data set and nothing to be judged or written.",
            "audit gate DATASET --verify-attestation FILE",
        )
    statement = verify_attestation(path, dataset, policy, key)
    signed = "signed" if key else "not checked for a signature: name the signer's --key"
    created = statement.predicate.created
    echo(f"ATTESTED: {safe(dataset)} passed this policy on {created} ({signed}).")
    return 0
