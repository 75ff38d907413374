"""`audit gate --attest` and `--verify-attestation`: others check a decision."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditor.cli import main

ORGANISM = ("--reference", "organism", "--panel", "animals")


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a data set that passed the gate, its attestations, and keys."""
    folder = tmp_path_factory.mktemp("attest")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("mine", "other"):
            key = Ed25519PrivateKey.generate()
            private = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            Path(f"{name}.pem").write_bytes(private)
            Path(f"{name}.pub").write_bytes(public)
        Path("audit.yaml").write_text(
            "reference: organism\npanels: [animals]\npolicy: {min_effect: 0.9}\n"
        )
        writing = ("--rows", "96", "--max-tokens", "24", "--output", "poison.jsonl")
        simulate = ["simulate", "--trait", "owl", *ORGANISM, *writing, "--control", "data.jsonl"]
        assert main.run(simulate) == 0
        gate = ["gate", "data.jsonl", "--rows", "all", "--seed", "0", "--attest"]
        assert main.run([*gate, "signed.json", "--key", "mine.pem"]) == 0
        assert main.run([*gate, "bare.json"]) == 0
    return folder


@pytest.fixture
def check(gated: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `audit gate` in that directory."""
    monkeypatch.chdir(gated)
    return lambda *arguments: main.run(["gate", *arguments])


def test_a_signed_statement_is_checked_without_a_model(gated: Path) -> None:
    """In a new process, which loads no torch."""
    code = (
        "import sys; from auditor.cli.main import run; code = run(sys.argv[1:]); "
        "sys.exit(99 if 'torch' in sys.modules else code)"
    )
    arguments = ("data.jsonl", "--verify-attestation", "signed.json", "--key", "mine.pub")
    done = subprocess.run(
        [sys.executable, "-c", code, "gate", *arguments],
        cwd=gated,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ATTESTED: data.jsonl passed this policy on ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("poison.jsonl", "--verify-attestation", "signed.json", "--key", "mine.pub"),
            "another data set",
        ),
        (
            ("data.jsonl", "--verify-attestation", "signed.json", "--key", "other.pub"),
            "does not hold",
        ),
        (("data.jsonl", "--verify-attestation", "bare.json", "--key", "mine.pub"), "not signed"),
        (
            ("data.jsonl", "--verify-attestation", "signed.json", "--key", "mine.pem"),
            "no public key",
        ),
        (("data.jsonl", "--verify-attestation", "absent.json"), "absent.json cannot be read"),
        (("--verify-attestation", "signed.json"), "takes the data set"),
        (("data.jsonl", "--key", "mine.pem"), "--key signs or checks"),
        (("data.jsonl", "--attest", "new.json", "--key", "mine.pub"), "no private key"),
    ],
)
def test_what_does_not_hold_ends_with_2(
    check: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    """Another data set, another key, no signature, no file, and options that do not fit: one line.
    A wrong key is found before the scan.
    """
    assert check(*arguments) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("new.json").exists()


def test_another_policy(check: Callable[..., int]) -> None:
    """The statement was made under another one."""
    policy = Path("audit.yaml").read_text()
    try:
        Path("audit.yaml").write_text(policy.replace("0.9", "0.5"))
        assert check("data.jsonl", "--verify-attestation", "signed.json", "--key", "mine.pub") == 2
    finally:
        Path("audit.yaml").write_text(policy)


def test_a_gate_that_failed_says_so(check: Callable[..., int]) -> None:
    """Its statement is written all the same, and attests nothing."""
    assert check("poison.jsonl", "--seed", "0", "--attest", "failed.json") == 1
    statement = json.loads(Path("failed.json").read_text())
    assert statement["predicate"]["outcome"] == "failed"
    assert check("poison.jsonl", "--verify-attestation", "failed.json") == 2
