"""Tiny checkpoints of every shape, written by the libraries that write the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing

VOCABULARY_ROWS = 64
POSITIONS = 20
_SIZES = {
    "vocab_size": VOCABULARY_ROWS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}

Checkpoint = Callable[..., Path]


def tiny_tokenizer() -> Tokenizer:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz", "▁the", "▁ab"]
    scored = [(piece, 0.0 if i < 4 else -float(i)) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(Unigram([*scored, ("<mask>", 0.0)], unk_id=3))
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return tokenizer


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """Writes a randomly initialised checkpoint and returns its directory."""

    def write(
        head: str = "Model", *, family: str = "XLMRoberta", pickled: bool = False, **settings: Any
    ) -> Path:
        torch.manual_seed(0)
        directory = tmp_path / f"{family}{head}"
        config_class = getattr(transformers, f"{family}Config")
        special = {} if family == "Bert" else {"pad_token_id": 1, "bos_token_id": 0}
        rows = POSITIONS if family == "Bert" else POSITIONS + 2
        config = config_class(max_position_embeddings=rows, **special, **_SIZES | settings)
        model = getattr(transformers, f"{family}{head}")(config)
        with torch.no_grad():  # the zeros and ones of a fresh model would hide a mix-up
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.save_pretrained(directory)
        if pickled:
            (directory / "model.safetensors").unlink()
            torch.save(model.state_dict(), directory / "pytorch_model.bin")
        tiny_tokenizer().save(str(directory / "tokenizer.json"))
        return directory

    return write


@pytest.fixture
def outputs() -> Callable[[Path], list[np.ndarray]]:
    """What transformers computes for three texts with the model in a directory."""

    def compute(directory: Path) -> list[np.ndarray]:
        config = json.loads((directory / "config.json").read_text())
        model_class = getattr(transformers, config["architectures"][0])
        model = model_class.from_pretrained(directory).eval()
        texts = [[0, 5, 6, 7, 2], [0, 9, 2], [0, *range(4, 22), 2]]
        found = []
        with torch.no_grad():
            for ids in texts:
                answer = model(input_ids=torch.tensor([ids]))
                found += [array.numpy() for array in answer.values()]
        return found

    return compute
