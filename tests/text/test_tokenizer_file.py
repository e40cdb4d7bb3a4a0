from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library

from xlmr.errors import ModelRefusedError
from xlmr.text.tokenizer import Tokenizer
from xlmr.text.tokenizer_file import open_library, parse_tokenizer, read_tokenizer_bytes

Change = Callable[[dict[str, Any]], None]
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def _write(path: Path, content: dict[str, Any], **options: Any) -> Path:
    path.write_text(json.dumps(content, **options), encoding="utf-8")
    return path


def _read(path: Path) -> tuple[Any, str]:
    raw = read_tokenizer_bytes(path)
    content = parse_tokenizer(raw)
    return open_library(raw), content.fingerprint


def _field(path: Path) -> str:
    with pytest.raises(ModelRefusedError) as refused:
        _read(path)
    return refused.value.field


def _set(*keys: str | int, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("model", "vocab", 0, value=["<pad>", 0.0]), "tokenizer.json/model/vocab/0"),
        (_set("model", "vocab", 1, value=["x", 0.0]), "tokenizer.json/model/vocab/1"),
        (_set("model", "vocab", 2, value=["[SEP]", 0.0]), "tokenizer.json/model/vocab/2"),
        (_set("model", "vocab", 3, value=["a", 0.0]), "tokenizer.json/model/vocab/3"),
        (_set("model", "vocab", value=[]), "tokenizer.json/model/vocab/0"),
        (_set("model", "unk_id", value=2), "tokenizer.json/model/unk_id"),
        (_set("model", "unk_id", value=None), "tokenizer.json/model/unk_id"),
        (_set("model", "type", value="BPE"), "tokenizer.json/model/type"),
        (_set("model", "vocab", value={"<s>": 0}), "tokenizer.json"),
        (_set("model", value=None), "tokenizer.json"),
        (_set("post_processor", "single", value=[]), "tokenizer.json/post_processor"),
        (_set("pre_tokenizer", value={"type": "NoSuchThing"}), "tokenizer.json"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused_by_name(
    tmp_path: Path, content: dict[str, Any], change: Change, field: str
) -> None:
    change(content)
    assert _field(_write(tmp_path / "tokenizer.json", content)) == field


def test_a_single_separator_between_texts_is_not_xlm_r(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    del content["post_processor"]["pair"][2]
    assert _field(_write(tmp_path / "t.json", content)) == "tokenizer.json/post_processor"


def test_a_tokenizer_without_mask_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    content["model"]["vocab"].pop()
    content["added_tokens"].pop()
    assert _field(_write(tmp_path / "t.json", content)) == "tokenizer.json/added_tokens/<mask>"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe\x00", b'{"model": 3}', b"[" * 100_000]
)
def test_malformed_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(raw)
    assert _field(path) == "tokenizer.json"


def test_a_file_cut_short_is_refused(tmp_path: Path, small_file: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(small_file.read_bytes()[:-20])
    assert _field(path) == "tokenizer.json"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert _field(tmp_path / "tokenizer.json") == "tokenizer.json"


@pytest.mark.parametrize("charsmap", ["", "AAAA", "////////", "not base64!", None, 7])
def test_a_broken_character_map_is_refused_before_the_library_panics(
    tmp_path: Path, content: dict[str, Any], charsmap: object
) -> None:
    broken = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    content["normalizer"]["normalizers"][0] = broken
    field = _field(_write(tmp_path / "tokenizer.json", content))
    assert field == "tokenizer.json/normalizer/precompiled_charsmap"


def test_a_model_with_no_room_for_text_is_refused(small_file: Path) -> None:
    with pytest.raises(ModelRefusedError, match="max_tokens"):
        Tokenizer.from_file(small_file, max_tokens=4)


def test_stored_truncation_and_padding_do_nothing(tmp_path: Path, content: dict[str, Any]) -> None:
    content["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    content["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    path = _write(tmp_path / "t.json", content)
    encoding = Tokenizer.from_file(path, max_tokens=32).encode("abcdefgh")
    assert len(encoding.ids) == encoding.total_tokens == 10
    assert 1 not in encoding.ids


@pytest.mark.parametrize(
    "change",
    [
        _set("model", "vocab", 9, value=["x1", -6.0]),
        _set("model", "vocab", 9, 1, value=-6.0000001),
        _set("normalizer", "normalizers", 0, value={"type": "NFC"}),
        _set("normalizer", "normalizers", 1, "content", value="_"),
        _set("normalizer", value=None),
        _set("pre_tokenizer", value={**METASPACE, "prepend_scheme": "never"}),
        _set("pre_tokenizer", value={**METASPACE, "prepend_scheme": "first"}),
        _set("pre_tokenizer", value={**METASPACE, "split": False}),
        _set("post_processor", value=None),
        _set("added_tokens", 4, "lstrip", value=True),
        _set("model", "byte_fallback", value=True),
    ],
)
def test_the_fingerprint_changes_with_whatever_decides_ids(
    tmp_path: Path, content: dict[str, Any], change: Change
) -> None:
    before = _read(_write(tmp_path / "before.json", content))[1]
    changed = copy.deepcopy(content)
    change(changed)
    assert _read(_write(tmp_path / "after.json", changed))[1] != before


def test_swapping_two_pieces_changes_the_fingerprint(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    before = _read(_write(tmp_path / "before.json", content))[1]
    vocabulary = content["model"]["vocab"]
    vocabulary[10], vocabulary[11] = vocabulary[11], vocabulary[10]
    assert _read(_write(tmp_path / "after.json", content))[1] != before


@pytest.mark.parametrize(
    "change",
    [
        lambda content: None,
        _set("pre_tokenizer", value=METASPACE),
        _set("decoder", value=None),
        _set("model", "vocab", 0, value=["<s>", 0]),
        _set("model", "byte_fallback", value=False),
        lambda content: content["added_tokens"].reverse(),
        lambda content: content["model"].pop("type"),
        lambda content: content.update(reversed(list(content.items()))),
    ],
)
def test_the_fingerprint_does_not_depend_on_how_the_file_is_written(
    tmp_path: Path, content: dict[str, Any], change: Change
) -> None:
    before = _read(_write(tmp_path / "before.json", content))[1]
    change(content)
    after = _write(tmp_path / "after.json", content, indent=2, ensure_ascii=False)
    assert _read(after)[1] == before


def test_the_fingerprint_survives_saving_with_the_library(tmp_path: Path, small_file: Path) -> None:
    again = tmp_path / "tokenizer.json"
    Library.from_file(str(small_file)).save(str(again))
    assert again.read_bytes() != small_file.read_bytes()
    assert _read(again)[1] == _read(small_file)[1]


@pytest.mark.starter
def test_the_real_fingerprint_survives_saving_with_the_library(
    tmp_path: Path, starter: Path
) -> None:
    library, fingerprint = _read(starter / "tokenizer.json")
    library.save(str(tmp_path / "tokenizer.json"))
    assert _read(tmp_path / "tokenizer.json")[1] == fingerprint
    assert len(fingerprint) == 64


def test_the_same_content_is_opened_once(tmp_path: Path, content: dict[str, Any]) -> None:
    paths = [_write(tmp_path / name, content) for name in ("one.json", "two.json")]
    one, two, shorter = (
        Tokenizer.from_file(path, max_tokens=most)
        for path, most in ((paths[0], 512), (paths[1], 512), (paths[1], 16))
    )
    assert one._library is two._library is shorter._library
    assert (one.max_tokens, shorter.max_tokens) == (512, 16)
    respaced = _write(tmp_path / "three.json", content, indent=1)
    assert Tokenizer.from_file(respaced, max_tokens=512)._library is one._library
    redecoded = _write(tmp_path / "four.json", content | {"decoder": None})
    other = Tokenizer.from_file(redecoded, max_tokens=512)
    assert other._library is not one._library
    assert other.fingerprint == one.fingerprint
    content["model"]["vocab"][10][1] -= 1.0
    other = Tokenizer.from_file(_write(paths[0], content), max_tokens=512)
    assert other.fingerprint != one.fingerprint
