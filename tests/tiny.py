"""Tiny random models of every kind, written by transformers, and a tokenizer to go with them.

They say nothing sensible; they hold our arithmetic against transformers' in milliseconds.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tokenizers
import torch
import transformers

LABELS: Mapping[str, tuple[str, ...]] = {
    "classify": ("refund", "delivery", "cancel"),
    "multi_label": ("angry", "urgent", "polite"),
    "regression": ("stars",),
    "zero_shot": ("CONTRADICTION", "neutral", "Entailment"),
    "tag": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    "rerank": ("LABEL_0",),
}
_CLASSES = {
    "embed": "Model",
    "fill": "ForMaskedLM",
    "tag": "ForTokenClassification",
    "answer": "ForQuestionAnswering",
    "classify": "ForSequenceClassification",
    "multi_label": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "zero_shot": "ForSequenceClassification",
    "rerank": "ForSequenceClassification",
}
# For tests that hold whatever computes: (runtime, precision).
RUNTIMES = (
    pytest.param(("reference", "fp32"), id="reference"),
    pytest.param(("native", "fp32"), id="native fp32"),
)
_BOUNDS = [("<s>", 0), ("</s>", 2)]
_PROBLEMS = {
    "classify": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
KINDS = tuple(_CLASSES)
_WORDS = (
    "hello world where is my parcel paris berlin anna lives in refund the money a not arrived "
    "привет мир где посылка 你好 世界 北京 我 住在 東京 こんにちは สวัสดี مرحبا שלום नमस्ते "
    "query: passage:"
)


def tiny_model(
    directory: Path,
    kind: str = "classify",
    *,
    seed: int = 0,
    pre_norm: bool = False,
    positions: int = 514,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "50GB",
    **config: Any,
) -> Path:
    """Writes a random model of a kind as a Hugging Face directory, and returns the directory.

    Args:
        directory: where the directory `kind` is made.
        kind: one of `KINDS`.
        seed: decides every weight.
        pre_norm: XLM-R XL's order of norms.
        positions: position rows; 514 hold 512 tokens.
        dtype: how the weights are stored.
        max_shard_size: small values split the weights over several files.
        config: further fields of `config.json`.
    """
    model = tiny_network(kind, seed=seed, pre_norm=pre_norm, positions=positions, **config)
    path = directory / kind
    transformers.utils.logging.disable_progress_bar()
    model.to(dtype).save_pretrained(path, max_shard_size=max_shard_size)
    (path / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    return path


def tiny_network(
    kind: str, *, seed: int = 0, pre_norm: bool = False, positions: int = 514, **config: Any
) -> Any:
    """The transformers model of a kind, in evaluation mode, with weights large enough to matter."""
    family = "XLMRobertaXL" if pre_norm else "XLMRoberta"
    labels = LABELS.get(kind, ())
    fields: dict[str, Any] = {
        "vocab_size": tokenizers.Tokenizer.from_str(tokenizer_json()).get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "initializer_range": 0.2,
    }
    if labels:
        fields["id2label"] = dict(enumerate(labels))
        fields["label2id"] = {label: i for i, label in enumerate(labels)}
    if kind in _PROBLEMS:
        fields["problem_type"] = _PROBLEMS[kind]
    torch.manual_seed(seed)
    shape = getattr(transformers, f"{family}Config")(**fields | config)
    model = getattr(transformers, family + _CLASSES[kind])(shape)
    with torch.no_grad():
        # Fresh biases and norms are all 0 or 1, and would hide a bias or a norm that is not read.
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@functools.cache
def tokenizer_json() -> str:
    """A Unigram tokenizer built like XLM-R's, over whole words and single characters."""
    words = _WORDS.split()
    letters = sorted({c for word in words for c in word} | set(map(chr, range(33, 127))))
    scores: dict[str, float] = {"<s>": 0.0, "<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁": -3.0}
    scores |= {letter: -8.0 for letter in letters}
    scores |= {word: -5.5 for word in words}
    scores |= {"▁" + word: -5.0 for word in words}
    scores["<mask>"] = 0.0
    library = tokenizers.Tokenizer(tokenizers.models.Unigram(list(scores.items()), unk_id=3))
    library.normalizer = tokenizers.normalizers.NFKC()
    library.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always"),
        ]
    )
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=_BOUNDS
    )
    library.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return library.to_str()


def write_linear_head(
    directory: Path,
    labels: tuple[str, ...],
    *,
    seed: int = 0,
    changed: Mapping[str, Any] | None = None,
) -> None:
    """Puts a random linear head on a frozen encoder's directory, as training writes it.

    `changed` replaces fields of its description, to write wrong ones.
    """
    width = json.loads((directory / "config.json").read_text())["hidden_size"]
    generator = torch.Generator().manual_seed(seed)
    safetensors.torch.save_file(
        {
            "weight": torch.randn(len(labels), width, generator=generator),
            "bias": torch.randn(len(labels), generator=generator),
        },
        directory / "xlmr_head.safetensors",
    )
    described = {
        "kind": "linear",
        "task": "classify",
        "labels": list(labels),
        "multi_label": False,
        "pooling": "mean",
        "normalize": True,
        "prompt": "query: ",
        "file": "xlmr_head.safetensors",
    }
    content = {"format": 1, "head": described | dict(changed or {}), "lineage": {}, "report": {}}
    (directory / "xlmr.json").write_text(json.dumps(content))
