"""transformers' model classes over a bundle's encoder, and batches as they read them.

Shapes: B texts of a batch, L tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlmr.model.bundle import Bundle
from xlmr.model.heads.labels import parse_labels
from xlmr.training.devices import import_extra
from xlmr.training.embeddings import return_rows
from xlmr.training.lora import merge_updates


def load_network(bundle: Bundle, head: str, **config: Any) -> Any:
    """The encoder under a head: `SequenceClassification`, `TokenClassification`, …, or `Model`.

    A head that the directory does not hold starts from random weights, by torch's seed.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    torch, transformers = import_extra("torch"), import_extra("transformers")
    family = "XLMRobertaXL" if bundle.config.pre_norm else "XLMRoberta"
    name = "Model" if head == "Model" else f"For{head}"
    network_class = getattr(transformers, f"{family}{name}")
    if head == "Model":
        config.setdefault("add_pooling_layer", False)
    return network_class.from_pretrained(
        bundle.directory, local_files_only=True, dtype=torch.float32, **config
    )


def holds_head(bundle: Bundle, head: str, labels: Sequence[str]) -> bool:
    """Whether a directory's checkpoint has a head of that kind, for just these labels."""
    named = bundle.raw_config.get("architectures") or [""]
    return named[0].endswith(f"For{head}") and parse_labels(bundle.raw_config) == tuple(labels)


def padded(texts: Sequence[Sequence[int]], network: Any) -> dict[str, Any]:
    """Ids [B, L] filled up with `<pad>` and the mask [B, L] that says what is real, on its device.

    Everything is laid out at once: a tensor for each text costs more than a small model's step.
    """
    import numpy as np
    import torch

    longest = max(map(len, texts))
    ids_BL = np.full((len(texts), longest), network.config.pad_token_id, np.int64)
    for i, text in enumerate(texts):
        ids_BL[i, : len(text)] = text
    lengths_B1 = np.fromiter(map(len, texts), np.int64, len(texts))[:, None]
    mask_BL = (np.arange(longest)[None, :] < lengths_B1).astype(np.int64)
    device = network.device
    return {
        "input_ids": torch.from_numpy(ids_BL).to(device),
        "attention_mask": torch.from_numpy(mask_BL).to(device),
    }


def save_network(network: Any, directory: Path) -> None:
    """Writes weights and configuration in float32, everything that was learned in its place."""
    return_rows(network)
    merge_updates(network).save_pretrained(directory)
