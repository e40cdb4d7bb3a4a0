"""The small files of a model: tokenizer, pooling, prompts, model card; and what is left behind."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from xlmr.errors import ModelRefusedError
from xlmr.model.importing.report import Notes
from xlmr.model.importing.sentencepiece import convert_sentencepiece
from xlmr.model.jsonfiles import read_object, read_optional_object
from xlmr.model.sentences import sentence_files

_SENTENCEPIECE = "sentencepiece.bpe.model"
_SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
_XLM_R_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
# Copied as they are, where they are.
_COPIED = re.compile(
    r"special_tokens_map\.json|xlmr(_head)?\.(json|safetensors)|README\.md|LICENSE.*|NOTICE.*"
)
# Read by other steps of the import.
_READ = re.compile(
    r"config\.json|tokenizer(_config)?\.json|added_tokens\.json"
    r"|(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?"
)
# Why something is left behind; the first pattern that matches says it.
_REASONS = (
    (r".*\.py", "code of others is never run"),
    (r"(sparse|colbert)_linear\.pt", "the sparse and multi-vector heads are not supported"),
    (r"pytorch_model.*\.bin.*", "model.safetensors holds the same"),
    (r"sentencepiece\.bpe\.model|unigram\.json", "tokenizer.json holds the same"),
    (r"training_args\.bin|.*\.(pt|pth|pkl|bin|ckpt)", "pickled objects are not loaded"),
    (r".*\.(h5|msgpack|onnx|onnx_data|tflite|ot)|onnx/|openvino/", "another format of the weights"),
)
# Families that were trained with a prefix on every text but do not say so in a file.
_E5 = re.compile(r"(^|/)multilingual-e5-(small|base|large)$")


def hub_files(names: Collection[str]) -> list[str]:
    """Which files of a hub's repository an import needs; never code, one format of the weights."""
    safetensors = [
        n for n in names if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?", n)
    ]
    pickled = [
        n for n in names if re.fullmatch(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?", n)
    ]
    small = [
        name
        for name in names
        if _COPIED.fullmatch(name)
        or re.fullmatch(
            r"config\.json|tokenizer(_config)?\.json|added_tokens\.json|modules\.json"
            r"|config_sentence_transformers\.json|sentence_bert_config\.json|\d+_\w+/config\.json",
            name,
        )
    ]
    spare = [] if "tokenizer.json" in names else [n for n in names if n == _SENTENCEPIECE]
    return sorted({*(safetensors or pickled), *small, *spare})


def write_tokenizer(source: Path, out: Path, rows: int, max_tokens: int, notes: Notes) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.

    Raises:
        ModelRefusedError: no tokenizer, one that is not XLM-R's, or more pieces than `rows`.
    """
    path, target = source / "tokenizer.json", out / "tokenizer.json"
    if path.is_file():
        shutil.copyfile(path, target)
    elif (source / _SENTENCEPIECE).is_file():
        target.write_text(convert_sentencepiece(source / _SENTENCEPIECE), encoding="utf-8")
        _refuse_further_tokens(source, target)
        notes.convert(f"{_SENTENCEPIECE}: tokenizer.json")
    else:
        raise ModelRefusedError(
            f"neither tokenizer.json nor {_SENTENCEPIECE}", field="tokenizer.json"
        )
    check_tokenizer(read_object(target), rows)
    settings = read_optional_object(source / "tokenizer_config.json") or {
        "model_max_length": max_tokens,
        **_SPECIAL_TOKENS,
    }
    if settings.pop("auto_map", None) is not None:
        notes.skip("tokenizer_config.json auto_map", "remote code is never run")
    settings["tokenizer_class"] = "XLMRobertaTokenizer"
    for name in ("name_or_path", "special_tokens_map_file", "vocab_file", "tokenizer_file"):
        settings.pop(name, None)  # paths of another machine
    _write(out / "tokenizer_config.json", settings)
    if not (source / "special_tokens_map.json").is_file():
        _write(out / "special_tokens_map.json", _SPECIAL_TOKENS)


def check_tokenizer(tokenizer: Mapping[str, Any], rows: int) -> None:
    """Refuses a tokenizer that is not XLM-R's kind.

    Raises:
        ModelRefusedError: not a unigram model, other special ids, or an id beyond `rows`.
    """
    model = tokenizer.get("model")
    kind = model.get("type", "Unigram") if isinstance(model, Mapping) else None
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    if kind != "Unigram" or not isinstance(vocabulary, list):
        raise ModelRefusedError(
            f"expected 'Unigram', got {kind!r}",
            field="tokenizer.json model.type",
            hint="the model does not use XLM-R's vocabulary",
        )
    try:
        first = tuple(piece for piece, _ in vocabulary[:4])
        added = [int(token["id"]) for token in tokenizer.get("added_tokens") or []]
    except (TypeError, ValueError, KeyError) as fault:
        raise ModelRefusedError(f"not a vocabulary ({fault})", field="tokenizer.json") from fault
    if first != _XLM_R_FIRST:
        raise ModelRefusedError(
            f"expected {', '.join(_XLM_R_FIRST)} first, got {first!r}",
            field="tokenizer.json model.vocab",
        )
    if (pieces := max([len(vocabulary), *(i + 1 for i in added)])) > rows:
        raise ModelRefusedError(
            f"{rows} rows for the tokenizer's {pieces} pieces", field="config.json vocab_size"
        )


def write_companions(source: Path, out: Path, origin: str, notes: Notes) -> None:
    """Copies the model card, the sentence-transformers files and ours.

    Raises:
        ModelRefusedError: a sentence-transformers file that cannot be read.
    """
    names = [
        path.name for path in source.iterdir() if path.is_file() and _COPIED.fullmatch(path.name)
    ]
    for name in [*names, *sentence_files(source)]:
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, out / name)
    settings = read_optional_object(out / "config_sentence_transformers.json") or {}
    if _E5.search(origin) and not settings.get("prompts"):
        prompts = {"query": "query: ", "passage": "passage: "}
        _write(out / "config_sentence_transformers.json", settings | {"prompts": prompts})
        notes.convert("prompts: query and passage added, as this family was trained")


def note_left_behind(source: Path, out: Path, notes: Notes) -> None:
    """Says which files and folders of the source the result does not have."""
    kept = {PurePosixPath(path.relative_to(out).as_posix()).parts[0] for path in out.rglob("*")}
    for path in sorted(source.iterdir()):
        if path.name in kept or path.name.startswith("."):
            continue
        if path.is_dir() and not any(path.iterdir()):
            continue
        note_skipped_file(path.name + ("/" if path.is_dir() else ""), notes, used=_is_used(path))


def note_skipped_file(name: str, notes: Notes, *, used: bool = False) -> None:
    """Says why one file or folder (`name/`) is left behind; nothing where it was `used`."""
    if used:
        return
    for pattern, reason in _REASONS:
        if re.fullmatch(pattern, name):
            notes.skip(name, reason)
            return
    notes.skip(name, "not needed")


def _is_used(path: Path) -> bool:
    name = path.name
    if name == _SENTENCEPIECE:
        return not (path.parent / "tokenizer.json").exists()
    if name.startswith("pytorch_model"):
        return not has_safetensors(path.parent) and _READ.fullmatch(name) is not None
    return _READ.fullmatch(name) is not None


def has_safetensors(directory: Path) -> bool:
    """Whether a directory holds its weights as safetensors."""
    names = ("model.safetensors", "model.safetensors.index.json")
    return any((directory / name).is_file() for name in names)


def _refuse_further_tokens(source: Path, tokenizer: Path) -> None:
    """`added_tokens.json` beside a SentencePiece file may only repeat what it has."""
    added = read_optional_object(source / "added_tokens.json") or {}
    if not added:
        return
    content = read_object(tokenizer)
    known = {token["content"]: token["id"] for token in content["added_tokens"]}
    for text, index in added.items():
        if known.get(text) != index:
            raise ModelRefusedError(
                f"id {index} is for a token that {_SENTENCEPIECE} does not have",
                field="added_tokens.json",
                hint="save the tokenizer with transformers, which writes tokenizer.json",
            )


def _write(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
