"""What a gate decided about a data set, as a statement that others can check: what it says, how it
is signed, and how it is verified without a model.

The statement follows in-toto (https://in-toto.io/Statement/v1), with a predicate of our own whose
schema is auditor/report/attestation_schema.json. A signature is a DSSE envelope around it
(https://github.com/secure-systems-lab/dsse), by Ed25519.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditor import __version__
from auditor.errors import AuditError, InputError, import_optional
from auditor.release.baseline import Sha256
from auditor.release.decision import Decision
from auditor.release.policy import Policy
from auditor.scanning.scan_report import OutcomeName, ScanReport, VerdictName

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://subliminal-audit.github.io/subliminal-audit/attestation/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_WRITE = "Write a new one with audit gate --attest FILE."
_KEY = "Make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_PUBLIC_KEY = "Make it of the private key with: openssl pkey -in key.pem -pubout -out public.pem"


class _Values(BaseModel):
    # in-toto asks a reader to pass over fields that it does not know.
    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True, strict=True)


class Digest(_Values):
    """The digest of some bytes, in hexadecimal digits."""

    sha256: Sha256


class Subject(_Values):
    """What a statement is about. Only the digest tells one from another."""

    name: str
    digest: Digest


class Outcome(_Values):
    """One rule of the policy, applied: see `auditor.release.decision.Rule`."""

    name: str
    outcome: OutcomeName
    text: str


class UnreadPart(_Values):
    """Something of the data set that the audit did not read.

    share: of the rows, or of the bytes for a file, in [0, 1]; None where it cannot be told.
    """

    kind: str
    name: str
    share: float | None
    reason: str


class Rows(_Values):
    """How many rows there are, were looked at and scored, and why others were skipped."""

    total: int
    read: int
    scanned: int
    skipped: dict[str, int]


class Settings(_Values):
    """The settings of the scan on which its error rate depends.

    rows: at most so many, "all", or "auto". alpha: the highest rate of false alarms, in (0, 1).
    """

    rows: int | Literal["all", "auto"]
    seed: int
    alpha: float


class Predicate(_Values):
    """What was decided, and what it rests on.

    outcome: of the gate. verdict, reason: of the scan. rules: of the policy, each with its outcome.
    excluded_doses: by test and trait, the upper 95 % bound of the dose; None where the rows did not
    suffice. min_effect: the dose that is excluded for every trait; None where that cannot be said.
    unread: what of the data set was not read. policy: the digest of `policy_sha256`. reference:
    the digests that make up the identity of the model, and its number type. created: when, UTC.
    """

    outcome: OutcomeName
    verdict: VerdictName
    reason: str
    rules: tuple[Outcome, ...] = Field(strict=False)
    excluded_doses: dict[str, dict[str, float | None]]
    min_effect: float | None
    rows: Rows
    unread: tuple[UnreadPart, ...] = Field(strict=False)
    policy: Digest
    panels: tuple[Subject, ...] = Field(strict=False)
    reference: dict[str, str]
    settings: Settings
    versions: dict[str, str]
    created: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


class Statement(_Values):
    """An in-toto statement, version 1, about one data set."""

    subject: tuple[Subject, ...] = Field(strict=False, min_length=1)
    predicate: Predicate

    def to_bytes(self) -> bytes:
        """The statement as JSON: what is written, and what is signed. The same statement always
        gives the same bytes.
        """
        types = {"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE}
        value = types | self.model_dump(mode="json")
        return json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode()


def policy_sha256(policy: Policy, baseline: bytes | None = None) -> str:
    """SHA-256 of a policy: of all its keys as canonical JSON, those at their defaults included, and
    of the content of its baseline file, if it names one.
    """
    value = {
        "policy": policy.model_dump(mode="json"),
        "baseline_sha256": baseline and hashlib.sha256(baseline).hexdigest(),
    }
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def statement_of(
    report: ScanReport, decision: Decision, policy_digest: str, created: datetime
) -> Statement:
    """The statement that `decision` was made on `report` by the policy with this digest.

    created: when, with its time zone.
    """
    settings, verdict = report.settings, report.verdict
    identity = ("name", "sha256", "tokenizer_sha256", "template_sha256", "dtype")
    predicate = Predicate(
        outcome=decision.outcome,
        verdict=verdict.name,
        reason=verdict.reason,
        rules=tuple(Outcome(**asdict(rule)) for rule in decision.rules),
        excluded_doses={test.name: dict(test.bounds) for test in report.tests if not test.skipped},
        min_effect=verdict.min_effect,
        rows=Rows(
            total=report.dataset.total,
            read=report.rows_looked_at,
            scanned=report.rows_scanned,
            skipped=report.rows_skipped,
        ),
        unread=tuple(UnreadPart.model_validate(part) for part in report.dataset.unread),
        policy=Digest(sha256=policy_digest),
        panels=(Subject(name=settings["panel"], digest=Digest(sha256=settings["panel_sha256"])),),
        reference={
            key: str(report.reference[key])
            for key in identity
            if report.reference.get(key) is not None
        },
        settings=Settings(
            rows=settings["rows"], seed=settings["seed"], alpha=float(settings["alpha"])
        ),
        versions={"subliminal-audit": __version__} | report.versions,
        created=created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    subject = Subject(name=report.dataset.name, digest=Digest(sha256=report.dataset.sha256))
    return Statement(subject=(subject,), predicate=predicate)


def encoded(payload_type: str, body: bytes) -> bytes:
    """The bytes that a DSSE signature is of (its pre-authentication encoding): type and body with
    their lengths, so that no other pair gives the same bytes.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def render(statement: Statement, private_key: bytes | None = None) -> str:
    """The text of an attestation: a DSSE envelope signed with `private_key`, or the bare statement
    where there is none.

    private_key: Ed25519 in PEM, without a passphrase. Raises AuditError where it is none, or where
    the package `cryptography` is missing.
    """
    body = statement.to_bytes()
    if private_key is None:
        return body.decode() + "\n"
    key = load_key(private_key, private=True)
    envelope = {
        "payload": base64.b64encode(body).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {
                "keyid": key_id(key.public_key()),
                "sig": base64.b64encode(key.sign(encoded(PAYLOAD_TYPE, body))).decode(),
            }
        ],
    }
    return json.dumps(envelope, indent=2) + "\n"


def key_id(public_key: Any) -> str:
    """A hint which key signed: the SHA-256 of its SubjectPublicKeyInfo. Nobody relies on it."""
    serialization = _cryptography("hazmat.primitives.serialization")
    der = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def verify(
    content: bytes, *, dataset_sha256: str, policy_digest: str, public_key: bytes | None = None
) -> Statement:
    """The statement in `content`, when it says that this data set passed this policy.

    content: what `render` wrote. public_key: Ed25519 in PEM; the statement must then be signed with
    its private key. Without it anybody may have written the statement, signed or not.

    Raises InputError for anything that cannot be read, a signature that does not hold or is
    missing, another data set, another policy, and a gate that was not passed; AuditError for a key
    that is none, and where the package `cryptography` is missing.
    """
    body, signatures = _opened(_object(content, "The attestation"), content)
    if public_key is not None:
        _check_signature(load_key(public_key, private=False), body, signatures)
    value = _object(body, "The statement of the attestation")
    for key, known in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if value.get(key) != known:
            raise InputError(f"The attestation has {key} {value.get(key)!r}, not {known}.", _WRITE)
    try:
        statement = Statement.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(name) for name in first["loc"])
        raise InputError(f"The attestation: {path}: {first['msg']}.", _WRITE) from error
    digests = [subject.digest.sha256 for subject in statement.subject]
    if dataset_sha256 not in digests:
        raise InputError(
            f"The attestation is about another data set: SHA-256 {digests[0][:16]}, and this one "
            f"has {dataset_sha256[:16]}.",
            "Gate this data set: audit gate DATASET --attest FILE.",
        )
    made_for = statement.predicate.policy.sha256
    if made_for != policy_digest:
        raise InputError(
            f"The attestation was made under another policy: SHA-256 {made_for[:16]}, and the one "
            f"in force has {policy_digest[:16]}.",
            "Gate the data set under this policy.",
        )
    if statement.predicate.outcome != "passed":
        raise InputError(
            f"The attestation says that the gate was not passed: {statement.predicate.outcome}.",
            "Mend the data set, then gate it again.",
        )
    return statement


def _opened(value: Mapping[str, Any], content: bytes) -> tuple[bytes, tuple[bytes, ...] | None]:
    """The bytes of the statement, and the signatures of the envelope; None where there is none."""
    if "payload" not in value:
        return content, None
    if value.get("payloadType") != PAYLOAD_TYPE:
        kind = value.get("payloadType")
        raise InputError(f"The attestation holds {kind!r}, not {PAYLOAD_TYPE}.", _WRITE)
    entries = value.get("signatures")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("The attestation has no list of signatures.", _WRITE)
    return _decoded(value["payload"]), tuple(_decoded(entry.get("sig")) for entry in entries)


def _decoded(text: object) -> bytes:
    """Base64 of either alphabet, as DSSE asks a reader to take."""
    try:
        # An error for a text that is none: its characters cannot be translated.
        plain = str.translate(text, {ord("-"): "+", ord("_"): "/"})  # type: ignore[arg-type]
        return base64.b64decode(plain, validate=True)
    except (TypeError, ValueError) as error:
        raise InputError("The attestation is no valid base64.", _WRITE) from error


def _object(content: bytes, what: str) -> Mapping[str, Any]:
    """The JSON object in `content`. A key that stands twice is refused: two readers could take two
    statements from it.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError("a key stands twice")
        return value

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON ({error}).", _WRITE) from error
    if not isinstance(value, dict):
        raise InputError(f"{what} is no JSON object.", _WRITE)
    return value


def _check_signature(key: Any, body: bytes, signatures: tuple[bytes, ...] | None) -> None:
    """Raise InputError unless one of the signatures is of `body` by this key."""
    if not signatures:
        raise InputError(
            "The attestation is not signed, and a public key is given.",
            "Ask for a signed one: audit gate --attest FILE with a key.",
        )
    invalid = _cryptography("exceptions").InvalidSignature
    for signature in signatures:
        try:
            key.verify(signature, encoded(PAYLOAD_TYPE, body))
        except invalid:
            continue
        return
    raise InputError(
        "The signature of the attestation does not hold for this public key.",
        "Check that the key is the signer's, and that the file is as it was written.",
    )


def load_key(pem: bytes, *, private: bool) -> Any:
    """The Ed25519 key in PEM. Raises AuditError where it is none."""
    serialization = _cryptography("hazmat.primitives.serialization")
    ed25519 = _cryptography("hazmat.primitives.asymmetric.ed25519")
    kind, hint = ("private", _KEY) if private else ("public", _PUBLIC_KEY)
    try:
        if private:
            key = serialization.load_pem_private_key(pem, password=None)
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, _cryptography("exceptions").UnsupportedAlgorithm) as error:
        raise AuditError(
            f"The key is no {kind} key in PEM without a passphrase.", f"{hint}."
        ) from error
    expected = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    if not isinstance(key, expected):
        raise AuditError(f"The key is no {kind} key of Ed25519.", f"{hint}.")
    return key


def _cryptography(module: str) -> Any:
    """A module of the package `cryptography`, which an extra installs. Raises AuditError."""
    purpose = "The signature of an attestation"
    import_optional("cryptography", extra="sign", purpose=purpose)
    return import_module(f"cryptography.{module}")
