"""Sentence vectors while training: of a network that learns, of a model that serves, and its files.

Shapes: N texts, B texts of a batch, L tokens of the longest text read together, D vector width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xlmr.model.answers import prepare_embed
from xlmr.model.bundle import Bundle
from xlmr.model.pooling import Pooling
from xlmr.model.prepared import EmbedOptions, compute
from xlmr.model.runtimes import open_runtime
from xlmr.model.sentences import LIMITS, MODULES, PROMPTS, sentence_files
from xlmr.settings import Settings
from xlmr.training.checkpoint import link_files, write_json
from xlmr.training.networks import padded

Vectors = NDArray[np.float32]

_CHUNK_TEXTS = 256
# What a forward pass of its own costs, in tokens that could have been padding instead, and the
# share of a batch that a split must save.
_PASS_TOKENS, _WORTH_SPLITTING = 64, 0.2
_QUERY, _DOCUMENTS = "query", ("passage", "document")


class Told(Protocol):
    """Who hears how far a long computation is."""

    def __call__(self, *, done: float, tokens: int) -> None:
        """The share that is done in all, 0 to 1, and the tokens that are new."""


def prompt_names(bundle: Bundle) -> tuple[str, str]:
    """The prompts of a question and of a document; the default one where a model has no such pair.

    The first of them is also that of texts which mean the same: a bitext, or two similar ones.
    """
    default = bundle.default_prompt or ""
    query = _QUERY if _QUERY in bundle.prompts else default
    document = next((name for name in _DOCUMENTS if name in bundle.prompts), default)
    return query, document


def served_vectors(
    bundle: Bundle, texts: Sequence[str], *, prompt: str, told: Told | None = None
) -> Vectors:
    """Vectors [N, D] at length 1, computed in float32 by the runtime that the settings name.

    The native runtime is several times faster than a network that could learn, and gives a text
    the same bits whatever it is computed with.

    Args:
        bundle: whose vectors.
        texts: cut to what the model reads.
        prompt: name of one of the model's prompts, or "".
        told: hears after every few hundred texts how far it is.

    Raises:
        ModelError: the runtime cannot compute this model.
        EngineError: the runtime cannot be loaded.
    """
    settings = Settings.from_environment()
    options = EmbedOptions(prompt=prompt, normalize=True)
    vectors_ND = np.empty((len(texts), bundle.config.hidden), np.float32)
    runtime = open_runtime(
        bundle,
        name=settings.runtime,
        precision="fp32",
        threads=settings.threads,
        isa=settings.isa,
        batch_tokens=settings.batch_tokens,
        cache_dir=settings.cache_dir,
    )
    try:
        for start in range(0, len(texts), _CHUNK_TEXTS):
            prepared = prepare_embed(bundle, texts[start : start + _CHUNK_TEXTS], options)
            embeddings = prepared.finish(compute(prepared, runtime))
            for i, found in enumerate(embeddings, start):
                vectors_ND[i] = found.vector
            if told is not None:
                tokens = sum(found.accounting.tokens for found in embeddings)
                told(done=(start + len(embeddings)) / len(texts), tokens=tokens)
    finally:
        runtime.close()
    return vectors_ND


def learned_vectors(network: Any, texts: Sequence[Sequence[int]], pooling: Pooling) -> Any:
    """Vectors [B, D] of a network at length 1, float32, with gradients where they are recorded.

    Args:
        network: transformers' encoder without a head.
        texts: token ids of each.
        pooling: how token vectors become one.
    """
    import torch

    parts, order = [], []
    for group in length_groups([len(text) for text in texts]):
        inputs = padded([texts[i] for i in group], network)
        hidden_BLD = network(**inputs).last_hidden_state.float()
        if pooling.kind == "cls":
            parts.append(hidden_BLD[:, 0])
        else:
            mask_BL1 = inputs["attention_mask"].unsqueeze(-1).float()
            parts.append((hidden_BLD * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1))
        order += group
    places = torch.from_numpy(np.argsort(order)).to(parts[0].device)
    return torch.nn.functional.normalize(torch.cat(parts)[places], dim=1)


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Places of texts that are read together, so that short ones are not padded to the longest."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    sorted_N = np.asarray(lengths)[order]
    groups: list[list[int]] = []

    def split(start: int, end: int) -> None:
        whole = (end - start) * int(sorted_N[end - 1])
        cuts = np.arange(start + 1, end)
        costs = (cuts - start) * sorted_N[cuts - 1] + (end - cuts) * sorted_N[end - 1]
        best = int(costs.argmin()) if len(costs) else 0
        if len(costs) and whole - costs[best] > max(_PASS_TOKENS, _WORTH_SPLITTING * whole):
            split(start, int(cuts[best]))
            split(int(cuts[best]), end)
        else:
            groups.append(order[start:end].tolist())

    split(0, len(lengths))
    return groups


def write_sentence_files(bundle: Bundle, directory: Path) -> None:
    """Says in sentence-transformers' files how a trained model makes vectors: as its encoder did.

    They are those of the encoder; where it has none, they say what was learned with.
    """
    if (bundle.directory / MODULES).exists():
        link_files(bundle.directory, directory, names=sentence_files(bundle.directory))
    else:
        _write_modules(bundle, directory)
    for module in json.loads((directory / MODULES).read_text(encoding="utf-8")):
        (directory / module["path"]).mkdir(exist_ok=True)


def _write_modules(bundle: Bundle, directory: Path) -> None:
    steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
    steps += [("Normalize", "2_Normalize")] if bundle.pooling.normalize else []
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(steps)
    ]
    (directory / MODULES).write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
    (directory / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": bundle.config.hidden,
        "pooling_mode_cls_token": bundle.pooling.kind == "cls",
        "pooling_mode_mean_tokens": bundle.pooling.kind == "mean",
    }
    write_json(directory / "1_Pooling" / "config.json", pooling)
    limits = {"max_seq_length": bundle.max_tokens, "do_lower_case": False}
    write_json(directory / LIMITS, limits)
    prompts = {
        "prompts": dict(bundle.prompts),
        "default_prompt_name": bundle.default_prompt,
        "similarity_fn_name": "cosine",
    }
    write_json(directory / PROMPTS, prompts)
