"""Load a reference model and its tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import errors as hub_errors
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from auditor.errors import ModelError, first_line
from auditor.model.builtin import BUILT_IN, cache_dir, fetch, quiet
from auditor.model.language_model import LanguageModel

LOG = logging.getLogger(__name__)

# Digits, punctuation, a line break and letters with accents: what a tokenizer may lose.
_PROBE = "Numbers: 1, 23; 456\n(Déjà vu?)"
_CHOOSE = (
    f"Give a built-in ({', '.join(BUILT_IN)}), a local folder or a hub name (owner/model) with "
    "--reference."
)


def load(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load the model `name`: a built-in, a local folder (safetensors or GGUF), a .gguf file or a
    hub name.

    device: CUDA, else MPS, else the CPU unless given. dtype: float32 unless given, and bfloat16 for
        large weights only on CUDA, since it rounds much of what is looked for away (runs/log.md).
    A hub model is downloaded as safetensors only; pickled weights are never read.

    Raises: ModelError, with the next step, when the model is unknown, cannot be downloaded, has no
    safetensors, no chat template, a tokenizer that loses text, or an architecture whose logits are
    not those of a body and a head.
    """
    if device is None:
        device = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else device
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        hint = "Give --device cpu, cuda or mps, or leave it out."
        raise ModelError(f"There is no device {device} here.", hint) from error
    path = Path(name).expanduser()
    if name in BUILT_IN:
        path = fetch(name)
    elif not path.exists():
        path = _download(name, trust_remote_code)
    weights = _weight_files(path, name)
    large = sum(file.stat().st_size for file in weights) > 8 * 2**30
    dtype = dtype or ("bfloat16" if large and device.startswith("cuda") else "float32")
    LOG.info("loading %s from %s, %s on %s", name, path, dtype, device)
    folder = path
    options: dict[str, object] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    if weights[0].suffix == ".gguf":
        folder, options["gguf_file"] = weights[0].parent, weights[0].name
    # Reading a GGUF draws a progress bar that no setting turns off.
    with quiet(), contextlib.redirect_stderr(io.StringIO()), _explained(name, device):
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
        # Pickled weights that lie beside the safetensors must not be taken for them.
        if "gguf_file" not in options:
            options["use_safetensors"] = True
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), **options
        )
        model = model.to(device).eval().requires_grad_(False)
    digests = [_file_sha256(file) for file in weights]
    sha256 = hashlib.sha256("".join(digests).encode()).hexdigest()
    sha256 = digests[0] if len(digests) == 1 else sha256
    LOG.debug("SHA-256 of the weights of %s: %s", name, sha256)
    lm = LanguageModel(name, path, sha256, dtype, device, model, tokenizer)
    _check_tokenizer(lm)
    _check_head(lm)
    return lm


def _download(name: str, trust_remote_code: bool) -> Path:
    """The local snapshot of a hub model: its safetensors, configuration and tokenizer, and nothing
    that is pickled.
    """
    if name.endswith(".gguf") or name.count("/") != 1 or name[0] in "./~":
        raise ModelError(f"There is no model {name}.", _CHOOSE)
    LOG.info("looking for %s on the hub", name)
    patterns = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
    patterns += ["*.py"] * trust_remote_code
    # Some repositories hold the weights a second time, in folders or as Mistral's `consolidated`.
    copies = ["*/*", "consolidated*"]
    try:
        with quiet():
            return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=copies))
    except hub_errors.GatedRepoError as error:
        hint = (
            "Accept its terms on the hub and log in (`hf auth login`), or give another --reference."
        )
        raise ModelError(f"The hub model {name} is not open to you.", hint) from error
    except (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError) as error:
        message = f"There is no model {name}, neither here nor on the hub."
        raise ModelError(message, _CHOOSE) from error
    except (OSError, hub_errors.EntryNotFoundError) as error:
        message = f"The hub model {name} is not in the local cache and cannot be downloaded."
        hint = f"Check the network, or download it elsewhere and give its folder. {_CHOOSE}"
        raise ModelError(message, hint) from error


def _weight_files(path: Path, name: str) -> list[Path]:
    if path.is_file():
        weights = [path] if path.suffix == ".gguf" else []
    else:
        weights = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.gguf"))[:1]
    if weights:
        return weights
    if path.is_dir() and any(path.glob("*.bin")):
        hint = (
            "Save it again with `save_pretrained(..., safe_serialization=True)`; pickled weights "
            "can run code."
        )
        raise ModelError(f"The model {name} has pickled weights only, which are not read.", hint)
    raise ModelError(f"There are no weights (.safetensors or .gguf) in {path}.", _CHOOSE)


@contextlib.contextmanager
def _explained(name: str, device: str) -> Iterator[None]:
    """Turn what transformers raises while loading into one line."""
    failures = (OSError, ValueError, RuntimeError, ImportError, LookupError, AttributeError)
    try:
        yield
    except torch.OutOfMemoryError as error:
        hint = "Try --dtype bfloat16, --device cpu or a smaller model."
        raise ModelError(f"The model {name} does not fit on {device}.", hint) from error
    except (*failures, SafetensorError) as error:
        hint = (
            "Check that the folder holds a causal language model and its tokenizer that "
            "transformers can load."
        )
        if "trust_remote_code" in str(error):
            hint = (
                "It brings code of its own, which no command runs; from Python, "
                "auditor.model.load.load can be told to."
            )
        message = f"The model {name} cannot be loaded: {first_line(error)}."
        raise ModelError(message, hint) from error


def _check_tokenizer(lm: LanguageModel) -> None:
    if not lm.tokenizer.is_fast:
        hint = (
            "Add a tokenizer.json to it "
            "(`AutoTokenizer.from_pretrained(...).save_pretrained(...)`)."
        )
        raise ModelError(
            f"The tokenizer of {lm.name} does not say which characters a token stands for.", hint
        )
    ids = lm.tokenizer(_PROBE, add_special_tokens=False).input_ids
    if lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip() != _PROBE:
        hint = (
            "Choose a reference whose tokenizer keeps every character, such as the student's own "
            "base."
        )
        raise ModelError(
            f"The tokenizer of {lm.name} does not give back the text it encodes.", hint
        )
    if not lm.tokenizer.chat_template:
        hint = (
            "Use the instruct version of the model, or put its chat_template.jinja into the folder."
        )
        raise ModelError(f"The model {lm.name} has no chat template.", hint)


@torch.inference_mode()
def _check_head(lm: LanguageModel) -> None:
    """The scoring pass applies the head by itself; make sure that this is what the model does."""
    ids = torch.tensor([lm.tokenizer(_PROBE, add_special_tokens=False).input_ids], device=lm.device)
    expected = lm.model(input_ids=ids).logits.float()
    logits = lm.head(lm.body(input_ids=ids).last_hidden_state)
    # Wide enough for the rounding of bfloat16, and far below what a missing scale would change.
    if not torch.allclose(expected, logits, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
        hint = "Its architecture is not supported; choose another --reference."
        raise ModelError(
            f"The logits of {lm.name} are not its head applied to its hidden states.", hint
        )


def _file_sha256(file: Path) -> str:
    """The digest of `file`, remembered under its path, size and time: reading gigabytes at every
    start is slow.
    """
    status = file.stat()
    key = f"{file.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    note = cache_dir() / "digests" / hashlib.sha256(key.encode()).hexdigest()
    with contextlib.suppress(OSError):
        return note.read_text()
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False) as scratch:
            scratch.write(digest)
        Path(scratch.name).replace(note)
    return digest
