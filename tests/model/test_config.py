from __future__ import annotations

from typing import Any

import pytest
import transformers

from xlmr.errors import ModelRefusedError
from xlmr.model.config import parse_config

# The fields of FacebookAI/xlm-roberta-base's config.json that matter here.
BASE: dict[str, Any] = {
    "model_type": "xlm-roberta",
    "vocab_size": 250002,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-05,
    "pad_token_id": 1,
}


def test_reads_the_base_model() -> None:
    config = parse_config(BASE)
    assert (config.hidden, config.layers, config.heads, config.head_width) == (768, 12, 12, 64)
    assert not config.pre_norm
    assert config.operations_per_token == 169_869_312  # 85 M parameters in matrices, twice


@pytest.mark.parametrize("family", ["XLMRobertaConfig", "XLMRobertaXLConfig"])
def test_left_out_fields_are_what_transformers_takes(family: str) -> None:
    config = getattr(transformers, family)()
    left_out = {k: v for k, v in BASE.items() if k not in ("layer_norm_eps", "pad_token_id")}
    parsed = parse_config(left_out | {"model_type": config.model_type})
    assert parsed.norm_epsilon == config.layer_norm_eps
    assert parsed.pad_id == config.pad_token_id


def test_514_position_rows_hold_512_tokens() -> None:
    assert parse_config(BASE).max_tokens == 512


def test_xl_is_pre_norm() -> None:
    assert parse_config(BASE | {"model_type": "xlm-roberta-xl"}).pre_norm


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "bert"),
        ("model_type", None),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("type_vocab_size", 2),
        ("hidden_size", 0),
        ("hidden_size", "768"),
        ("num_hidden_layers", True),
        ("vocab_size", None),
        ("intermediate_size", 3072.0),
        ("num_attention_heads", 7),
        ("max_position_embeddings", 4),
        ("pad_token_id", None),
        ("pad_token_id", -1),
        ("layer_norm_eps", None),
        ("layer_norm_eps", "1e-5"),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", float("nan")),
    ],
)
def test_refuses_and_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ModelRefusedError) as refused:
        parse_config(BASE | {field: value})
    assert field in refused.value.field


@pytest.mark.parametrize("field", ["vocab_size", "hidden_size", "max_position_embeddings"])
def test_refuses_a_missing_field(field: str) -> None:
    with pytest.raises(ModelRefusedError, match=field):
        parse_config({name: value for name, value in BASE.items() if name != field})
