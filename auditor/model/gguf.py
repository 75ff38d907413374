"""A GGUF file as a folder of safetensors in the user's cache, converted once.

Reading a GGUF takes minutes where the vocabulary is large, since its tokens are read one by one,
and transformers reads the file anew for the configuration, the tokenizer and the weights.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import transformers

from auditor.model.builtin import cache_dir, convert, file_sha256, put_in_place, quiet

LOG = logging.getLogger(__name__)

# A larger file is read anew each time: its weights in float32 would take eight times the space.
_MOST_BYTES = 2 * 2**30
_SLOW_BYTES = 50 * 2**20  # that take long enough to say so


def converted(gguf: Path) -> Path | None:
    """The folder in the cache with what `gguf` holds: weights in float32, configuration, tokenizer
    and chat template; None for a file of more than 2 GiB.

    It goes by the digest of the file and the version of transformers, whose reading it is. It is
    put in place by one rename, so it is there complete or not at all. Raises: OSError where the
    cache cannot be written, and whatever transformers raises for a damaged file.
    """
    size = gguf.stat().st_size
    if size > _MOST_BYTES:
        return None
    name = f"gguf-{file_sha256(gguf)[:32]}-transformers-{transformers.__version__}"
    folder = cache_dir() / "models" / name
    if folder.is_dir():
        return folder
    if size > _SLOW_BYTES:
        LOG.warning("reading %s once, which may take minutes; from then on seconds", gguf.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as scratch:
        target = Path(scratch) / "converted"
        convert(gguf, target)
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
            tokenizer.save_pretrained(target)
        put_in_place(target, folder)
    LOG.info("converted %s to %s", gguf, folder)
    return folder
