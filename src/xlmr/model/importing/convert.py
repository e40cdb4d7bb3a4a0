"""Names, shapes and numbers of a checkpoint become XLM-R's; nothing here touches a file.

Two shapes come in. XLM-R's own, in which only leftovers are dropped, and BERT's with XLM-R's
vocabulary (multilingual E5 small, paraphrase-multilingual-MiniLM), which is the same network under
other names: positions count from 0 instead of from `pad_id + 1`, and there are two token types of
which XLM-R's tokenizer only ever produces the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelRefusedError, WeightsError
from xlmr.model.config import EncoderConfig, parse_config
from xlmr.model.importing.report import Notes
from xlmr.model.importing.writing import WIDTHS, StoredArray
from xlmr.model.weights import expected_shapes, name_table

# Head weights by the part of the architecture's name that tells the head.
_LINEAR = ("weight", "bias")
HEADS: Mapping[str, tuple[str, ...]] = {
    "Model": (),
    "ForMaskedLM": (
        "lm_head.bias",
        *(f"lm_head.{owner}.{part}" for owner in ("dense", "layer_norm") for part in _LINEAR),
    ),
    "ForSequenceClassification": tuple(
        f"classifier.{owner}.{part}" for owner in ("dense", "out_proj") for part in _LINEAR
    ),
    "ForTokenClassification": ("classifier.weight", "classifier.bias"),
    "ForQuestionAnswering": ("qa_outputs.weight", "qa_outputs.bias"),
}
_POOLER = ("pooler.dense.weight", "pooler.dense.bias")
_TIED = {
    "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

# BERT's heads under XLM-R's names: the arithmetic is the same.
_BERT_NAMES = {
    "cls.predictions.bias": "lm_head.bias",
    **{f"cls.predictions.decoder.{part}": f"lm_head.decoder.{part}" for part in _LINEAR},
    **{f"cls.predictions.transform.dense.{part}": f"lm_head.dense.{part}" for part in _LINEAR},
    **{
        f"cls.predictions.transform.LayerNorm.{part}": f"lm_head.layer_norm.{part}"
        for part in _LINEAR
    },
}
_BERT_CLASSIFIER = {
    **{f"pooler.dense.{part}": f"classifier.dense.{part}" for part in _LINEAR},
    **{f"classifier.{part}": f"classifier.out_proj.{part}" for part in _LINEAR},
}
_XLM_R_SPECIAL_IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
# Settings that name code, paths of another machine, or the class of a tokenizer we replace.
_FOREIGN_SETTINGS = {
    "auto_map": "remote code is never run",
    "custom_pipelines": "remote code is never run",
    "_name_or_path": "",
    "tokenizer_class": "",
}


def convert_config(raw: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """`config.json` as XLM-R's, in which `parse_config` finds nothing to refuse.

    Raises:
        ModelRefusedError: a field says that the model is not XLM-R shaped; names it.
    """
    config = dict(raw)
    for name, reason in _FOREIGN_SETTINGS.items():
        if config.pop(name, None) is not None and reason:
            notes.skip(f"config.json {name}", reason)
    if "quantization_config" in config:
        raise ModelRefusedError(
            "expected none, the weights are quantised",
            field="config.json quantization_config",
            hint="import the original model",
        )
    if config.get("model_type") == "bert":
        _from_bert(config, notes)
    types = config.get("type_vocab_size", 1)
    # Written down even where it was left out: transformers would take it to be 2.
    config["type_vocab_size"] = 1
    if isinstance(types, int) and types > 1:
        notes.convert(f"token types: the first of {types} rows kept")
    if (pad_id := config.get("pad_token_id", 1)) != 1:
        raise ModelRefusedError(f"expected 1, got {pad_id!r}", field="config.json pad_token_id")
    config["pad_token_id"] = 1
    config.setdefault("layer_norm_eps", _default_epsilon(raw))
    parse_config(config)
    return config


def _default_epsilon(raw: Mapping[str, Any]) -> float:
    """What transformers takes where a config does not say."""
    return 1e-5 if raw.get("model_type") == "xlm-roberta-xl" else 1e-12


def _from_bert(config: dict[str, Any], notes: Notes) -> None:
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or isinstance(positions, bool) or positions < 3:
        raise ModelRefusedError(
            f"expected a whole number of at least 3, got {positions!r}",
            field="config.json max_position_embeddings",
        )
    config |= {"model_type": "xlm-roberta", "max_position_embeddings": positions + 2}
    config |= _XLM_R_SPECIAL_IDS
    config.setdefault("type_vocab_size", 2)
    named = config.get("architectures")
    if isinstance(named, list) and named:
        head = re.fullmatch(r"Bert(\w+)", str(named[0]))
        if head is None:
            raise ModelRefusedError(
                f"expected one of BERT's, got {named[0]!r}", field="config.json architectures"
            )
        name = head[1].replace("ForPreTraining", "ForMaskedLM")
        config["architectures"] = [f"XLMRoberta{name}"]
    notes.convert("model_type bert: XLM-R's names, positions counted from 2")


def head_of(config: Mapping[str, Any], names: Sequence[str]) -> str:
    """Which of `HEADS` the model has: what `architectures` says, else what its weights tell.

    Raises:
        ModelRefusedError: an architecture that is none of XLM-R's.
    """
    named = config.get("architectures")
    if not named:
        return _guess_head(names)
    first = named[0] if isinstance(named, list) else named
    match = re.fullmatch(r"XLMRoberta(?:XL)?(\w+)", str(first))
    if match is None or match[1] not in HEADS:
        known = ", ".join(f"XLMRoberta{head}" for head in HEADS)
        raise ModelRefusedError(
            f"expected one of {known}, got {first!r}", field="config.json architectures"
        )
    return match[1]


def _guess_head(names: Sequence[str]) -> str:
    plain = {_plain_name(name) for name in names}
    for head in ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"):
        if HEADS[head][0] in plain:
            return head
    masked = plain & {"lm_head.dense.weight", "cls.predictions.transform.dense.weight"}
    return "ForMaskedLM" if masked else "Model"


def convert_arrays(
    arrays: Sequence[StoredArray], raw: Mapping[str, Any], config: dict[str, Any], notes: Notes
) -> list[StoredArray]:
    """The arrays to write, under XLM-R's names; sets `config["architectures"]` where it was open.

    Args:
        arrays: what the checkpoint holds.
        raw: its `config.json` as it came.
        config: the same, converted.
        notes: hears about everything that is changed or left out.

    Raises:
        ModelRefusedError: a weight that XLM-R does not have, or of another shape.
        WeightsError: a weight is missing, or in a number format weights do not come in.
    """
    is_bert = raw.get("model_type") == "bert"
    head = head_of(config, [array.name for array in arrays])
    family = "XLMRobertaXL" if config["model_type"] == "xlm-roberta-xl" else "XLMRoberta"
    config["architectures"] = [f"{family}{head}"]
    encoder = parse_config(config)
    table = name_table(encoder)
    named = _under_our_names(arrays, is_bert=is_bert, head=head, notes=notes)
    kept = _select(named, set(table.values()), head, config, notes)
    _reshape(kept, is_bert=is_bert, encoder=encoder)
    _check_encoder(kept, encoder)
    _check_head(kept, head, config)
    prefix = "" if head == "Model" else "roberta."
    in_encoder = {*table.values(), *_POOLER}
    return [
        replace(array, name=prefix + name if name in in_encoder else name)
        for name, array in kept.items()
    ]


def _plain_name(name: str) -> str:
    """Without wrappers' and encoders' prefixes, layer norms under their present names."""
    name = name.removeprefix("module.")
    name = name.removeprefix("roberta.").removeprefix("bert.")
    name = re.sub(r"((?:LayerNorm|layer_norm)\.)gamma$", r"\1weight", name)
    return re.sub(r"((?:LayerNorm|layer_norm)\.)beta$", r"\1bias", name)


def _under_our_names(
    arrays: Sequence[StoredArray], *, is_bert: bool, head: str, notes: Notes
) -> dict[str, StoredArray]:
    renames = dict(_BERT_NAMES) if is_bert else {}
    if is_bert and head == "ForSequenceClassification":
        renames |= _BERT_CLASSIFIER
        notes.convert("BERT's pooler and classifier: XLM-R's classification head")
    named: dict[str, StoredArray] = {}
    for array in arrays:
        plain = _plain_name(array.name)
        name = renames.get(plain, plain)
        if name in named:
            raise WeightsError(f"{array.name} and {named[name].name} are the same weight")
        named[name] = array
    return named


def _select(
    named: Mapping[str, StoredArray],
    in_encoder: set[str],
    head: str,
    config: Mapping[str, Any],
    notes: Notes,
) -> dict[str, StoredArray]:
    """What to keep: the encoder, the head, and a decoder of its own where the model has one."""
    wanted = in_encoder | set(HEADS[head]) | (set(_POOLER) if head == "Model" else set())
    kept: dict[str, StoredArray] = {}
    for name, array in named.items():
        if name in wanted:
            kept[name] = array
        elif name in _TIED and head == "ForMaskedLM":
            _select_decoder(name, named, kept, config, notes)
        elif name in _BUFFERS:
            notes.skip(array.name, "a buffer, not a weight")
        elif name.startswith(("embeddings.", "encoder.")):
            raise ModelRefusedError("XLM-R has no such weight", field=array.name)
        else:
            notes.skip(array.name, f"no part of XLMRoberta{head}")
    return kept


def _select_decoder(
    name: str,
    named: Mapping[str, StoredArray],
    kept: dict[str, StoredArray],
    config: Mapping[str, Any],
    notes: Notes,
) -> None:
    decoder, original = named[name], named.get(_TIED[name])
    if original is None and name.endswith("bias"):
        kept["lm_head.bias"] = decoder
        notes.convert(f"{decoder.name}: lm_head.bias")
    elif original is not None and _same(decoder, original):
        notes.skip(decoder.name, f"the same as {original.name}")
    elif config.get("tie_word_embeddings", True):
        notes.skip(decoder.name, f"config.json ties it to {_TIED[name]}")
        notes.warn(f"{decoder.name} differed from the weight that config.json ties it to")
    else:
        kept[name] = decoder


def _same(left: StoredArray, right: StoredArray) -> bool:
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return False
    pairs = zip(left.chunks(), right.chunks(), strict=True)
    # As bytes: the same number in all its bits, whatever it is.
    return all(np.array_equal(_as_bytes(a), _as_bytes(b)) for a, b in pairs)


def _as_bytes(chunk: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)


def _reshape(kept: dict[str, StoredArray], *, is_bert: bool, encoder: EncoderConfig) -> None:
    types, positions = (
        "embeddings.token_type_embeddings.weight",
        "embeddings.position_embeddings.weight",
    )
    if (array := kept.get(types)) is not None and len(array.shape) == 2 and array.shape[0] > 1:
        kept[types] = _first_row(array)
    if is_bert and (array := kept.get(positions)) is not None:
        kept[positions] = _below_zero_rows(array, encoder.pad_id + 1)


def _first_row(array: StoredArray) -> StoredArray:
    width = array.shape[1] * WIDTHS.get(array.dtype, 0)

    def chunks() -> Iterator[NDArray[Any]]:
        yield np.concatenate([_as_bytes(chunk) for chunk in array.chunks()])[:width]

    return replace(array, shape=(1, array.shape[1]), chunks=chunks)


def _below_zero_rows(array: StoredArray, rows: int) -> StoredArray:
    def chunks() -> Iterator[NDArray[Any]]:
        yield np.zeros(rows * math.prod(array.shape[1:]) * WIDTHS[array.dtype], np.uint8)
        yield from array.chunks()

    return replace(array, shape=(array.shape[0] + rows, *array.shape[1:]), chunks=chunks)


def _check_encoder(kept: Mapping[str, StoredArray], encoder: EncoderConfig) -> None:
    shapes = expected_shapes(encoder)
    for ours, theirs in name_table(encoder).items():
        if theirs not in kept:
            raise WeightsError(f"{theirs} is missing", hint="the checkpoint is not complete")
        if kept[theirs].shape != shapes[ours]:
            raise ModelRefusedError(
                f"shape {kept[theirs].shape}, config.json says {shapes[ours]}",
                field=kept[theirs].name,
            )
    for array in kept.values():
        if array.dtype not in WIDTHS:
            raise WeightsError(
                f"{array.name} is {array.dtype}; weights must be F32, F16 or BF16",
                hint="import the original model, not a quantised copy",
            )


def _check_head(kept: Mapping[str, StoredArray], head: str, config: Mapping[str, Any]) -> None:
    for name in HEADS[head]:
        if name not in kept:
            raise WeightsError(
                f"{name} is missing", hint=f"config.json promises a head: XLMRoberta{head}"
            )
    scores = {"ForSequenceClassification": 2, "ForTokenClassification": 0}.get(head)
    labels = config.get("id2label")
    if scores is None or not isinstance(labels, Mapping):
        return
    rows = kept[HEADS[head][scores]].shape[0]
    if len(labels) != rows:
        raise ModelRefusedError(
            f"{len(labels)} labels for {rows} rows of {HEADS[head][scores]}",
            field="config.json id2label",
        )
