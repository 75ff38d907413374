"""What a gate decided, written for others to check, and that check: it needs no model."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from auditor.data.files import digest_of
from auditor.errors import InputError
from auditor.release.attestation import (
    Statement,
    load_key,
    policy_sha256,
    render,
    statement_of,
    verify,
)
from auditor.release.decision import Decision
from auditor.release.policy import Policy
from auditor.runs.run_directory import write_file
from auditor.scanning.scan_report import ScanReport

LOG = logging.getLogger(__name__)


def check_key(key: Path) -> None:
    """Raise the error that signing with `key` would end with: a scan must not be lost to it."""
    load_key(_read(key), private=True)


def attest(
    report: ScanReport, decision: Decision, policy: Policy, path: Path, key: Path | None = None
) -> None:
    """Write the attestation of `decision` to `path`, signed where `key` names a private key.

    Raises InputError when the key or the policy's baseline cannot be read, AuditError when the key
    is none or the package that signs is missing, RunError when `path` cannot be written.
    """
    statement = statement_of(report, decision, _policy_digest(policy), datetime.now(UTC))
    write_file(path, render(statement, _read(key) if key else None).encode())
    LOG.info("attestation %s: %s, %s", path, decision.outcome, "signed" if key else "not signed")


def verify_attestation(
    path: Path, dataset: str, policy: Policy, key: Path | None = None
) -> Statement:
    """The statement in `path`, when it says that `dataset`, as it lies here, passed `policy`.

    key: a public key, with which the statement must be signed. Nothing is scanned. Raises
    InputError for whatever does not hold; see `auditor.release.attestation.verify`.
    """
    return verify(
        _read(path),
        dataset_sha256=digest_of(dataset),
        policy_digest=_policy_digest(policy),
        public_key=_read(key) if key else None,
    )


def _policy_digest(policy: Policy) -> str:
    return policy_sha256(policy, _read(Path(policy.baseline)) if policy.baseline else None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
