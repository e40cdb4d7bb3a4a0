"""The architecture as numbers, read from a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xlmr.errors import ModelRefusedError

MODEL_TYPES = ("xlm-roberta", "xlm-roberta-xl")


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What the forward pass needs to know. All widths are in elements.

    Attributes:
        vocabulary: rows of the word embedding, V.
        hidden: width of a token's vector, D.
        layers: encoder layers, L.
        heads: attention heads, A; D is a multiple of A.
        intermediate: width of the feed-forward layer, F.
        position_rows: rows of the position embedding; the first `pad_id + 1` are never used.
        pad_id: id of `<pad>`; positions start at `pad_id + 1`.
        norm_epsilon: added to the variance in layer norms.
        pre_norm: layer norm before each block and after the last (XLM-R XL), not after each.
    """

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    position_rows: int
    pad_id: int
    norm_epsilon: float
    pre_norm: bool

    @property
    def max_tokens(self) -> int:
        """Tokens a text may have, special ones included: 514 position rows hold 512."""
        return self.position_rows - self.pad_id - 1

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def operations_per_token(self) -> int:
        """Multiply-adds of the encoder's matrices for one token, counted as two operations each."""
        per_layer = 4 * self.hidden * self.hidden + 2 * self.hidden * self.intermediate
        return 2 * self.layers * per_layer


def parse_config(config: Mapping[str, Any]) -> EncoderConfig:
    """Reads the architecture from a parsed `config.json`.

    Raises:
        ModelRefusedError: a field is missing or says the model is not XLM-R shaped; names it.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ModelRefusedError(
            f"expected one of {', '.join(MODEL_TYPES)}, got {model_type!r}",
            field="config.json model_type",
            hint="`xlmr import` converts BERT-shaped models that use XLM-R's vocabulary",
        )
    _expect(config, "hidden_act", "gelu", default="gelu")
    _expect(config, "position_embedding_type", "absolute", default="absolute")
    _expect(config, "is_decoder", False, default=False)
    _expect(config, "type_vocab_size", 1, default=1)
    pre_norm = model_type == "xlm-roberta-xl"
    parsed = EncoderConfig(
        vocabulary=_count(config, "vocab_size"),
        hidden=_count(config, "hidden_size"),
        layers=_count(config, "num_hidden_layers"),
        heads=_count(config, "num_attention_heads"),
        intermediate=_count(config, "intermediate_size"),
        position_rows=_count(config, "max_position_embeddings"),
        pad_id=_count({"pad_token_id": 1, **config}, "pad_token_id", least=0),
        norm_epsilon=_epsilon(config, default=1e-5 if pre_norm else 1e-12),
        pre_norm=pre_norm,
    )
    if parsed.hidden % parsed.heads:
        raise ModelRefusedError(
            f"{parsed.heads} heads do not divide hidden_size {parsed.hidden}",
            field="config.json num_attention_heads",
        )
    if parsed.max_tokens < 3:
        raise ModelRefusedError(
            f"{parsed.position_rows} rows leave no room for a token between <s> and </s>",
            field="config.json max_position_embeddings",
        )
    return parsed


def _count(config: Mapping[str, Any], name: str, *, least: int = 1) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ModelRefusedError(
            f"expected a whole number of at least {least}, got {value!r}",
            field=f"config.json {name}",
        )
    return value


def _epsilon(config: Mapping[str, Any], *, default: float) -> float:
    """The addend of the layer norms; `default` is what transformers takes where none is given."""
    value = config.get("layer_norm_eps", default)
    if not isinstance(value, float | int) or not 0 < value < 1:
        raise ModelRefusedError(
            f"expected a small number above 0, got {value!r}", field="config.json layer_norm_eps"
        )
    return float(value)


def _expect(config: Mapping[str, Any], name: str, wanted: Any, *, default: Any) -> None:
    value = config.get(name, default)
    if value != wanted:
        raise ModelRefusedError(f"expected {wanted!r}, got {value!r}", field=f"config.json {name}")
