"""What an attestation says, how it is signed, and everything that its check refuses."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

import auditor
from auditor.data.coverage import Unread
from auditor.errors import AuditError, InputError
from auditor.release.attestation import (
    PAYLOAD_TYPE,
    Statement,
    encoded,
    key_id,
    policy_sha256,
    render,
    statement_of,
    verify,
)
from auditor.release.decision import Decision, Rule
from auditor.release.policy import Policy
from tests.support.sample_report import NO_RISK, sample_report

SCHEMA = json.loads(
    (Path(auditor.__file__).parent / "report" / "attestation_schema.json").read_text()
)
DATA = "ab" * 32
UNREAD = Unread("column", "notes", 1.0, "no format has it")
POLICY = policy_sha256(Policy(min_effect=0.5))
PASSED = Decision((Rule("verdict", "passed", "no risk: ..."),))


def pem(key: Any, passphrase: bytes | None = None) -> bytes:
    """A private key as PEM."""
    cipher: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        cipher = serialization.BestAvailableEncryption(passphrase)
    form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, cipher))


def public_pem(key: Any) -> bytes:
    """Its public key as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


# The first example of RFC 8032, section 7.1: no random key, so that the bytes are the same.
KEY = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
)
OTHER = Ed25519PrivateKey.from_private_bytes(b"1" * 32)


def statement(decision: Decision = PASSED) -> Statement:
    """A statement on a report without risk."""
    report = replace(sample_report(NO_RISK), rows_read=404)
    report = replace(report, dataset=replace(report.dataset, unread=(UNREAD,)))
    settings = {"panel": "animals", "panel_sha256": "ef" * 32, "rows": "all", "seed": 7}
    report = replace(report, settings=settings | {"alpha": 0.01})
    created = datetime(2026, 11, 28, 21, 0, 5, tzinfo=UTC)
    return statement_of(report, decision, POLICY, created)


def check(content: str | bytes, key: Any = None, **changed: str) -> Statement:
    """Verify with the digests that are right, but for those that are `changed`."""
    digests = {"dataset_sha256": DATA, "policy_digest": POLICY} | changed
    content = content.encode() if isinstance(content, str) else content
    return verify(content, public_key=key and public_pem(key), **digests)


def test_what_it_says() -> None:
    """The statement fits its schema and names what the decision rests on."""
    value = json.loads(render(statement()))
    jsonschema.validate(value, SCHEMA)
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    (subject,) = value["subject"]
    assert subject == {"name": "dataset.parquet", "digest": {"sha256": DATA}}
    predicate = value["predicate"]
    assert predicate["outcome"] == "passed" and predicate["verdict"] == "no_risk"
    assert predicate["policy"] == {"sha256": POLICY}
    assert predicate["panels"] == [{"name": "animals", "digest": {"sha256": "ef" * 32}}]
    assert predicate["reference"] == {
        "name": "smollm2-135m", "sha256": "cd" * 32, "dtype": "float32",
    }  # fmt: skip
    assert predicate["settings"] == {"rows": "all", "seed": 7, "alpha": 0.01}
    assert predicate["excluded_doses"]["prompts"]["owl"] == 0.63
    assert predicate["rows"]["skipped"] == {"empty_completion": 3, "too_long": 1}
    assert predicate["unread"] == [asdict(UNREAD)]
    assert predicate["created"] == "2026-11-28T21:00:05Z"


def test_the_encoding_that_is_signed() -> None:
    """The example of the DSSE protocol."""
    assert (
        encoded("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert encoded("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_signed_and_verified() -> None:
    """The envelope's signature is of its payload and type, as a library of its own sees it."""
    text = render(statement(), pem(KEY))
    envelope = json.loads(text)
    body = base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    public = Ed25519PublicKey.from_public_bytes(
        bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    )
    message = b"DSSEv1 %d %b %d %b" % (
        len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(body), body,
    )  # fmt: skip
    public.verify(base64.b64decode(signature["sig"]), message)
    assert signature["keyid"] == key_id(public)
    assert check(text, KEY) == check(text) == check(render(statement())) == statement()
    assert render(statement(), pem(KEY)) == text


def test_either_base64_and_unknown_fields() -> None:
    """A reader takes both alphabets, several signatures, no key id, and fields it does not know."""
    envelope = json.loads(render(statement(), pem(KEY)))
    mine = base64.urlsafe_b64encode(base64.b64decode(envelope["signatures"][0]["sig"])).decode()
    envelope["payload"] = base64.urlsafe_b64encode(base64.b64decode(envelope["payload"])).decode()
    envelope["signatures"] = [{"sig": "AAAA", "keyid": "x"}, {"sig": mine, "more": 1}]
    assert check(json.dumps(envelope | {"extra": 1}), KEY) == statement()


def changed(name: str) -> Callable[[dict[str, Any]], str]:
    """An edit of an envelope: another policy digest, another payload type, ..."""

    def edit(envelope: dict[str, Any]) -> str:
        value = json.loads(base64.b64decode(envelope["payload"]))
        if name == "verdict":
            value["predicate"]["reason"] = "all is well"
        elif name == "no signature":
            envelope["signatures"] = []
        elif name == "signatures":
            envelope["signatures"] = {"sig": "AAAA"}
        elif name == "base64":
            envelope["payload"] = "?" + envelope["payload"]
        elif name == "not text":
            envelope["payload"] = 5
        elif name == "payload type":
            envelope["payloadType"] = "application/json"
        elif name == "bare":
            return json.dumps(value)
        if name == "verdict":
            envelope["payload"] = base64.b64encode(json.dumps(value).encode()).decode()
        return json.dumps(envelope)

    return edit


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("verdict", "does not hold"),
        ("no signature", "not signed"),
        ("bare", "not signed"),
        ("signatures", "no list of signatures"),
        ("base64", "base64"),
        ("not text", "base64"),
        ("payload type", "application/json"),
    ],
)
def test_what_a_signed_one_must_be(name: str, message: str) -> None:
    """Nothing that the signer did not sign passes for signed."""
    text = changed(name)(json.loads(render(statement(), pem(KEY))))
    with pytest.raises(InputError, match=message):
        check(text, KEY)


def test_another_key() -> None:
    """A signature by somebody else, also where it claims the key id."""
    envelope = json.loads(render(statement(), pem(OTHER)))
    with pytest.raises(InputError, match="does not hold"):
        check(json.dumps(envelope), KEY)
    envelope["signatures"][0]["keyid"] = key_id(KEY.public_key())
    with pytest.raises(InputError, match="does not hold"):
        check(json.dumps(envelope), KEY)


def test_another_data_set_policy_or_outcome() -> None:
    """A statement counts for its own data set and policy, and only when it says passed."""
    text = render(statement(), pem(KEY))
    with pytest.raises(InputError, match=r"another data set: SHA-256 abababab.* has 0000"):
        check(text, KEY, dataset_sha256="0" * 64)
    with pytest.raises(InputError, match="another policy"):
        check(text, KEY, policy_digest="0" * 64)
    for outcome in ("failed", "inconclusive"):
        decision = Decision((Rule("verdict", outcome, "..."),))
        with pytest.raises(InputError, match=f"not passed: {outcome}"):
            check(render(statement(decision), pem(KEY)), KEY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"payload": "e30=", "payloadType": "application/vnd.in-toto+json"}',
        b'{"_type": "https://in-toto.io/Statement/v0.1"}',
        b"[" * 100_000,
        b'{"a": 1, "a": 2}',
    ],
)
def test_what_is_none(content: bytes) -> None:
    """One line for whatever is no attestation."""
    with pytest.raises(InputError) as failure:
        check(content)
    assert "\n" not in failure.value.message and failure.value.hint


def test_a_key_that_stands_twice() -> None:
    """One reader would take the first verdict, another the last."""
    text = render(statement()).replace('"outcome": "passed",', '"outcome": "failed",', 1)
    twice = text.replace('"outcome": "failed",', '"outcome": "failed", "outcome": "passed",', 1)
    assert twice != text
    with pytest.raises(InputError, match="twice"):
        check(twice)


@pytest.mark.parametrize("path", ["outcome", "rules", "policy", "unread", "rows"])
def test_what_lacks_something(path: str) -> None:
    """Every part is needed, and of its own type; the error names it."""
    value = json.loads(render(statement()))
    for broken in ({}, {path: "x"}):
        predicate = {name: v for name, v in value["predicate"].items() if name != path} | broken
        with pytest.raises(InputError, match=path):
            check(json.dumps(value | {"predicate": predicate}))


def test_keys_that_are_none() -> None:
    """A passphrase, another algorithm, the wrong half, no PEM: each is one clear error."""
    for bad in (pem(KEY, b"secret"), b"", b"x" * 100, public_pem(KEY)):
        with pytest.raises(AuditError, match="no private key in PEM"):
            render(statement(), bad)
    with pytest.raises(AuditError, match="no private key of Ed25519"):
        render(statement(), pem(ec.generate_private_key(ec.SECP256R1())))
    text = render(statement(), pem(KEY)).encode()
    for bad in (b"", pem(KEY)):
        with pytest.raises(AuditError, match="no public key in PEM"):
            verify(text, dataset_sha256=DATA, policy_digest=POLICY, public_key=bad)


def test_the_digest_of_a_policy() -> None:
    """Every key and the baseline's content count; the order of entries does not."""
    digests = {
        policy_sha256(Policy()),
        policy_sha256(Policy(max_probability=0.5)),
        policy_sha256(Policy(baseline="b.yaml"), b"one"),
        policy_sha256(Policy(baseline="b.yaml"), b"two"),
        policy_sha256(Policy(references=["organism"])),
        policy_sha256(Policy(max_dose={"owl": 1.0, "cat": 2.0})),
    }
    assert len(digests) == 6
    assert policy_sha256(Policy(max_dose={"cat": 2.0, "owl": 1.0})) in digests


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare statement needs no package; a signature names the extra that installs it."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert check(render(statement())) == statement()
    with pytest.raises(AuditError, match=r"cryptography.*subliminal-audit\[sign\]"):
        render(statement(), pem(KEY))
