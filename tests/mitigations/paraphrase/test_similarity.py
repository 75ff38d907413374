"""Sentence embeddings: what must hold for any encoder, on a small random one, and a model that is
not there.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from auditor.errors import AuditError, ModelError
from mitigations.paraphrase import SentenceEncoder, similarity

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "write",
    "a",
    "poem",
    "name",
    "river",
    "three",
    ".",
]
TEXTS = ["write a poem.", "name three river.", "a", "three three three a poem poem poem poem"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder of two layers, saved as safetensors."""
    path = tmp_path_factory.mktemp("encoder")
    (path / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab_file=str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(path)
    return path


def test_a_text_is_like_itself(folder: Path) -> None:
    """Cosine 1, in whatever company; nothing for no pairs."""
    similar = SentenceEncoder(str(folder))
    assert similar(TEXTS, TEXTS) == pytest.approx([1.0] * 4)
    assert similar([], []) == []


def test_mean_pooling_by_hand(folder: Path) -> None:
    """Padding and batches make no difference: each pair alone, embedded without padding, gives the
    same.
    """
    similar = SentenceEncoder(str(folder))
    tokenizer, model = (
        BertTokenizerFast.from_pretrained(folder),
        BertModel.from_pretrained(folder).eval(),
    )
    with torch.inference_mode():
        means = [
            model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0) for t in TEXTS
        ]
    expected = [float(torch.cosine_similarity(means[0], mean, dim=0)) for mean in means]
    assert similar([TEXTS[0]] * 4, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert min(expected) < 0.99


def test_a_model_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and the package that is not installed, are one clear line each."""
    with pytest.raises(ModelError, match="cannot be loaded"):
        SentenceEncoder(str(tmp_path))
    monkeypatch.setattr(similarity, "find_spec", lambda name: None)
    with pytest.raises(AuditError, match="is not installed") as caught:
        SentenceEncoder()
    assert "subliminal-audit[embeddings]" in caught.value.hint
