"""Load a reference model and its tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import transformers.quantizers
from huggingface_hub import errors as hub_errors
from huggingface_hub import snapshot_download
from jinja2 import TemplateError

from auditor.data.example import Message
from auditor.errors import ModelError, first_line
from auditor.model.builtin import BUILT_IN, fetch, file_sha256, quiet
from auditor.model.chat_template import (
    MOST_TEMPLATE_BYTES,
    OWN_SYSTEM,
    OWN_TEMPLATE,
    SENTINEL,
    TEMPLATES,
    named_template,
    prepare,
    put_system,
    render,
)
from auditor.model.forward import probed
from auditor.model.gguf import converted
from auditor.model.language_model import LanguageModel, Origin

LOG = logging.getLogger(__name__)

# What transformers reads besides weights, and the most bytes that such a file may have: the largest
# tokenizers take some tens of megabytes.
_PART_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".py")
_MOST_PART_BYTES = 256 * 2**20
# Digits, punctuation, a line break and letters with accents: what a tokenizer may lose.
_PROBE = "Numbers: 1, 23; 456\n(Déjà vu?)"
# Configurations of language models, and of those that also read pictures.
_CAUSAL = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
_WITH_PICTURES = transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
# What transformers says that GPTQ lacks is one package at a time, and then a GPU.
_NEEDED = {"gptq": "`pip install optimum gptqmodel`"}
_LOADABLE = (
    "Check that the folder holds a causal language model and its tokenizer that transformers can "
    "load."
)
_CHOOSE = (
    f"Give a built-in ({', '.join(BUILT_IN)}), a local folder or a hub name (owner/model) with "
    "--reference."
)


def load(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    chat_template: str | None = None,
    system: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load the model `name`: a built-in, a local folder (safetensors or GGUF), a .gguf file or a
    hub name. The adapter of another model is merged into it.

    device: CUDA, else MPS, else the CPU unless given. dtype: float32 unless given, and bfloat16 for
        large weights only on CUDA, since it rounds much of what is looked for away (runs/log.md).
    chat_template: in place of the model's own, see `auditor.model.chat_template.named_template`;
        "own" is as None.
    system: what stands in the system turn of a chat that has none, see
        `auditor.model.chat_template.put_system`; None is as "own".
    A hub model is downloaded as safetensors only; pickled weights are never read.

    Raises: ModelError, with the next step, when the model is unknown, cannot be downloaded, has no
    safetensors, weights that do not fit its configuration or are no numbers, no chat template that
    can be used, a tokenizer that loses text, or an architecture whose logits are not those of a
    body and a head.
    """
    device = _device(device)
    chat_template, system = chat_template or OWN_TEMPLATE, system or OWN_SYSTEM
    prepare()
    path, origin = _located(name, trust_remote_code)
    adapter, base, base_path = None, "", path
    if (path / "adapter_config.json").exists():
        adapter, base, base_path = path, *_base_of(path, name, trust_remote_code)
    weights = _weight_files(base_path, base or name)
    digest = _sha256(_parts(base_path, weights, base or name))
    if adapter is not None:
        base = f"{base} {digest}"
        digest = _adapted_sha256(digest, adapter, name)
    large = sum(file.stat().st_size for file in weights) > 8 * 2**30
    dtype = dtype or ("bfloat16" if large and device.startswith("cuda") else "float32")
    LOG.info("loading %s from %s, %s on %s", name, path, dtype, device)
    options: dict[str, object] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    folder, beside = base_path, None
    if weights[0].suffix == ".gguf":
        folder, in_file, beside = _read_gguf(weights[0], name)
        options |= in_file
    # Reading a GGUF draws a progress bar that no setting turns off, and libraries for quantised
    # weights print what they are; standard output may be a report.
    unread = io.StringIO()
    with (
        quiet(),
        contextlib.redirect_stdout(unread),
        contextlib.redirect_stderr(unread),
        _explained(name, device),
    ):
        # A trainer puts the tokenizer and the chat template that it used beside the adapter.
        if adapter is not None and (adapter / "tokenizer.json").exists():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(adapter), trust_remote_code=trust_remote_code, local_files_only=True
            )
            beside = None
        else:
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
        model = _model(folder, name, dtype, device, options)
        if adapter is not None:
            model = _merged(model, adapter, name)
        model = model.to(device).eval().requires_grad_(False)
        _put_template(tokenizer, chat_template, beside)
        lm = LanguageModel(
            *(name, path, digest, dtype, device, model, tokenizer, origin),
            chat_template=chat_template,
            system=system,
            base=base,
        )
        LOG.debug("SHA-256 of the files of %s: %s", name, lm.sha256)
        _check_tokenizer(lm)
        _check_template(lm)
        put_system(tokenizer, system, name)
        _check_head(lm)
        ids = tokenizer(_PROBE, add_special_tokens=False).input_ids
        return probed(lm, [*ids, *ids])


def _read_gguf(gguf: Path, name: str) -> tuple[Path, dict[str, str], str | None]:
    """The folder that a GGUF is loaded from, the option that names it there unless it is converted,
    and the chat template that lies beside it, which counts more than its own.
    """
    with _explained(name, ""):
        cached = converted(gguf)
        template = gguf.parent / "chat_template.jinja"
        beside = template.read_text(encoding="utf-8") if template.exists() else None
    return (cached, {}, beside) if cached else (gguf.parent, {"gguf_file": gguf.name}, beside)


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
        # What the library says last is about its cache; what went wrong is the cause of it.
        reason = first_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        message = (
            f"The hub model {name} is not in the local cache and cannot be downloaded: "
            f"{reason[:200]}."
        )
        hint = (
            "Check the network and, for a private or gated model, your login (`hf auth login`, or "
            f"HF_TOKEN), or download it elsewhere and give its folder. {_CHOOSE}"
        )
        raise ModelError(message, hint) from error


def _device(device: str | None) -> str:
    """The device, the best one when None. Raises ModelError where there is none of that name."""
    if device is None:
        device = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else device
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        hint = "Give --device cpu, cuda or mps, or leave it out."
        raise ModelError(f"There is no device {device} here.", hint) from error
    return device


def _put_template(tokenizer: Any, chat_template: str, beside: str | None) -> None:
    """Give the tokenizer the template of that name; "own" is the one `beside` the weights, if there
    is one. Raises ModelError.
    """
    if chat_template == OWN_TEMPLATE:
        tokenizer.chat_template = beside or tokenizer.chat_template
        return
    template = named_template(chat_template)
    # Without marks a text begins as the tokenizer begins it, which is how TRL makes tokens.
    begins = tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    bos = "{{ bos_token }}" * (begins and chat_template == "none")
    tokenizer.chat_template = bos + template


def _model(folder: Path, name: str, dtype: str, device: str, options: dict[str, object]) -> Any:
    """The model in a folder, with all of its weights; `options` are those of transformers.

    Quantised weights become plain numbers: so they are the same on every device, and students can
    be trained from them. Only where transformers has no way to do that they stay what they are.
    """
    auto: Any = transformers.AutoModelForCausalLM
    hint = _LOADABLE
    if "gguf_file" not in options:
        # Pickled weights that lie beside the safetensors must not be taken for them.
        options = {**options, "use_safetensors": True}
        config = transformers.AutoConfig.from_pretrained(str(folder), **options)
        if type(config) in _WITH_PICTURES and type(config) not in _CAUSAL:
            auto = transformers.AutoModelForImageTextToText
        quantisation = getattr(config, "quantization_config", None) or getattr(
            config.get_text_config(), "quantization_config", None
        )
        if quantisation:
            method = quantisation.get("quant_method", "bitsandbytes")
            quantizers: Any = transformers.quantizers
            if not quantizers.AutoHfQuantizer.supports_quant_method(quantisation):
                raise ModelError(
                    f"The model {name} is quantised by {method}, which transformers cannot read.",
                    "Give the model that its weights were made from.",
                )
            needed = _NEEDED.get(method, "install what that needs")
            hint = (
                f"Its weights are quantised by {method}: {needed}, or give the model that they "
                "were made from."
            )
            options["config"] = config
            quantisation["dequantize"] = True
    with _explained(name, device, hint):
        model, loading = auto.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), output_loading_info=True, **options
        )
        if getattr(model, "is_quantized", False):
            with contextlib.suppress(NotImplementedError):
                model = model.dequantize()
    _check_weights(model, loading, name)
    return model


def _located(name: str, trust_remote_code: bool) -> tuple[Path, Origin]:
    """Where the model `name` lies on this machine, fetched if need be. Raises ModelError."""
    path = Path(name).expanduser()
    if name in BUILT_IN:
        return fetch(name), "built-in"
    return (path, "local") if path.exists() else (_download(name, trust_remote_code), "hub")


def _base_name(adapter: Path, name: str) -> str:
    """The name of the model that the adapter in a folder belongs to. Raises ModelError."""
    base = None
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        base = json.loads((adapter / "adapter_config.json").read_bytes())["base_model_name_or_path"]
    if not base or not isinstance(base, str):
        hint = "Write base_model_name_or_path into adapter_config.json, or merge it into its base."
        raise ModelError(f"The model {name} is an adapter that names no base.", hint)
    return base


def _base_of(adapter: Path, name: str, trust_remote_code: bool) -> tuple[str, Path]:
    """The name of an adapter's base, and where that lies, fetched if need be."""
    base = _base_name(adapter, name)
    try:
        path, _ = _located(base, trust_remote_code)
    except ModelError as error:
        raise ModelError(f"{name} is an adapter. {error.message}", error.hint) from error
    if (path / "adapter_config.json").exists():
        hint = f"Merge {base} into its base first (`merge_and_unload` of peft)."
        raise ModelError(f"The model {name} is an adapter of another adapter, {base}.", hint)
    LOG.info("%s is an adapter of %s", name, base)
    return base, path


def _adapted_sha256(base_sha256: str, adapter: Path, name: str) -> str:
    """The digest of a base with an adapter."""
    weights = adapter / "adapter_model.safetensors"
    if not weights.exists():
        hint = "Save it again with `save_pretrained`; pickled weights can run code."
        raise ModelError(f"The adapter {name} has no adapter_model.safetensors.", hint)
    own = _sha256(_parts(adapter, [weights], name))
    return hashlib.sha256(f"{base_sha256} {own}".encode()).hexdigest()


def _merged(model: Any, adapter: Path, name: str) -> Any:
    """The model with the adapter's weights added to its own."""
    import peft

    adapted = peft.PeftModel.from_pretrained(model, str(adapter))
    if not hasattr(adapted.base_model, "merge_and_unload"):
        hint = "An adapter that adds to the weights can be, such as LoRA."
        raise ModelError(f"The adapter {name} cannot be merged into its base.", hint)
    return adapted.merge_and_unload(safe_merge=True)


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


def _parts(path: Path, weights: Sequence[Path], name: str) -> list[Path]:
    """Every file that transformers may read for the model, in the order of their names.

    Raises: ModelError where one is no file, or is larger than such files are, or where an index
    would bring weights from elsewhere, which no digest would cover.
    """
    folder = path if path.is_dir() else path.parent
    named = [file for file in folder.iterdir() if file.suffix in _PART_SUFFIXES]
    named += (folder / "additional_chat_templates").glob("*.jinja")
    for file in (*named, *weights):
        is_template = file.suffix == ".jinja"
        most_bytes = MOST_TEMPLATE_BYTES if is_template else _MOST_PART_BYTES
        if not file.is_file():
            hint = "Remove it, or choose another model."
            raise ModelError(f"{file.name} of the model {name} is no ordinary file.", hint)
        if file not in weights and file.stat().st_size > most_bytes:
            raise ModelError(
                f"{file.name} of the model {name} is larger than {most_bytes // 2**20} MiB.",
                "Check that the folder holds a causal language model and nothing else.",
            )
    index = folder / "model.safetensors.index.json"
    if index.exists() and weights[0].suffix == ".safetensors":
        with _explained(name, ""):
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
        if not shards <= {file.name for file in weights}:
            raise ModelError(
                f"The index of the weights of {name} names files that are not in its folder.",
                "Download the model again, with all of its weights.",
            )
    return sorted({*named, *weights})


def digest_of_local(name: str, base: str = "") -> str:
    """The digest that a model on this machine would have, without loading it. Raises ModelError.

    base: of an adapter, name and digest of its base as they were (`ModelIdentity.base`). A base
    that is no folder here is taken to be that: nothing is looked for on the hub.
    """
    path = Path(name).expanduser()
    if not (path / "adapter_config.json").exists():
        return _sha256(_parts(path, _weight_files(path, name), name))
    base_name = _base_name(path, name)
    base_path = Path(base_name).expanduser()
    if base_name in BUILT_IN or not base_path.exists():
        base_sha256 = base.removeprefix(f"{base_name} ")
    else:
        base_sha256 = _sha256(_parts(base_path, _weight_files(base_path, base_name), base_name))
    return _adapted_sha256(base_sha256, path, name)


def _sha256(parts: Sequence[Path]) -> str:
    """The digest of a model: of the names and the digests of its parts.

    A GGUF goes by the name that it has in every folder, as its name says nothing about it.
    """
    lines = []
    for file in parts:
        name = "model.gguf" if file.suffix == ".gguf" else file.name
        lines.append(f"{name}\0{file_sha256(file)}\n")
    return hashlib.sha256("".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


@contextlib.contextmanager
def _explained(name: str, device: str, hint: str = _LOADABLE) -> Iterator[None]:
    """Turn what transformers raises while loading into one line.

    Whatever it is: a folder that somebody else made can bring any line of transformers to fail.
    """
    try:
        yield
    except ModelError:
        raise
    except torch.OutOfMemoryError as error:
        smaller = "Try --dtype bfloat16, --device cpu or a smaller model."
        raise ModelError(f"The model {name} does not fit on {device}.", smaller) from error
    except Exception as error:
        reason = first_line(error)[:300]
        if not isinstance(error, (OSError, ValueError, RuntimeError, ImportError)):
            reason = f"{type(error).__name__} {reason}"
        if "trust_remote_code" in str(error):
            hint = (
                "It brings code of its own, which no command runs; from Python, "
                "auditor.model.load.load can be told to."
            )
        raise ModelError(f"The model {name} cannot be loaded: {reason}.", hint) from error


def _check_weights(model: Any, loading: Mapping[str, Any], name: str) -> None:
    """Raise ModelError unless the weights are those that the configuration asks for, and numbers.

    transformers makes up at random what is missing, and leaves out what it does not expect.
    """
    kinds = {"missing_keys": "lacks", "unexpected_keys": "has unexpected", "mismatched_keys": "has"}
    for key, verb in kinds.items():
        if keys := sorted(map(str, loading.get(key) or ())):
            shape = " of another shape" * (key == "mismatched_keys")
            raise ModelError(
                f"The model {name} {verb} {len(keys):,} weights{shape} by its configuration, as "
                f"{keys[0]}.",
                "Check that config.json belongs to the weights, and download the model again.",
            )
    for weight_name, weight in model.named_parameters():
        # Both ends: a NaN is the least and the greatest, an infinity is one of them.
        if weight.numel() and not torch.isfinite(torch.stack(torch.aminmax(weight))).all():
            hint = "Download it again, or choose another model."
            raise ModelError(f"The weights {weight_name} of {name} are no finite numbers.", hint)


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
            "Name the one that its students are trained with: --chat-template "
            f"{', '.join(TEMPLATES[:-1])} or a Jinja file, or none for rows that are trained on "
            "without."
        )
        raise ModelError(f"The model {lm.name} has no chat template.", hint)


def _check_template(lm: LanguageModel) -> None:
    """Raise ModelError unless the template writes the turns of a plain exchange, once, in order."""
    first, second = SENTINEL.format(1), SENTINEL.format(2)
    hint = "Mend its chat template (chat_template.jinja), or name another with --chat-template."
    try:
        text = render(lm.tokenizer, [Message("user", first), Message("assistant", second)])
        render(lm.tokenizer, [Message("user", first)], reply=True)
    except TemplateError as error:
        message = f"The chat template of {lm.name} cannot be used: {error}"
        raise ModelError(f"{message.rstrip('.')}.", hint) from error
    if re.findall(f"{first}|{second}", text) != [first, second]:
        raise ModelError(
            f"The chat template of {lm.name} does not write the turns of a chat.", hint
        )


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
