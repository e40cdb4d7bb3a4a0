"""A tokenizer small enough to read, with XLM-R's special tokens, and sentences in many scripts."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest

from xlmr.text.tokenizer import Tokenizer


def _template() -> dict[str, Any]:
    bos, eos = ({"SpecialToken": {"id": piece, "type_id": 0}} for piece in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [bos, first, eos],
        "pair": [bos, first, eos, eos, second, eos],
        "special_tokens": {
            piece: {"id": piece, "ids": [id], "tokens": [piece]}
            for piece, id in (("<s>", 0), ("</s>", 2))
        },
    }


def small_tokenizer_json() -> dict[str, Any]:
    """One piece a letter, a few longer ones, and `▁`."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = [*string.ascii_letters, *string.digits, *".,!?'-<>/éßа今天ش⁄"]
    pieces = [(piece, 0.0) for piece in specials]
    pieces += [("▁", -2.0), ("▁the", -3.0), ("▁a", -3.5), ("ing", -4.0)]
    pieces += [(letter, -6.0) for letter in letters]
    pieces.append(("<mask>", 0.0))
    added = [(piece, id) for id, piece in enumerate(specials)] + [("<mask>", len(pieces) - 1)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    metaspace = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    double_space = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id, "content": piece, **flags, "special": True} for piece, id in added
        ],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, double_space]},
        "pre_tokenizer": metaspace,
        "post_processor": _template(),
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [list(pair) for pair in pieces]},
    }


@pytest.fixture
def content() -> dict[str, Any]:
    """The small tokenizer's file as a value that a test may change."""
    return small_tokenizer_json()


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "tokenizer.json"
    path.write_text(json.dumps(small_tokenizer_json()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small(small_file: Path) -> Tokenizer:
    return Tokenizer.from_file(small_file, max_tokens=32)


@pytest.fixture(scope="session")
def real(starter: Path) -> Tokenizer:
    """The tokenizer with XLM-R's 250,002 pieces."""
    return Tokenizer.from_file(starter / "tokenizer.json", max_tokens=512)


@pytest.fixture(scope="session")
def sentences() -> dict[str, str]:
    """Written for these tests, one for each of 18 scripts."""
    return {
        "Latin": "Where is the parcel I ordered, naïve as it sounds?",
        "Cyrillic": "Когда вы наконец вернёте мне деньги за сломанный чайник?",
        "Greek": "Πότε θα φτάσει το δέμα μου; Περιμένω ήδη δέκα μέρες.",
        "Arabic": "أين طلبي؟ لقد دفعت ثمنه قبل أسبوعين ولم يصل بعد.",
        "Hebrew": "שלום, אני רוצה להחליף את הכתובת למשלוח.",
        "Devanagari": "मेरा खाता बंद हो गया है, कृपया मदद कीजिए।",
        "Bengali": "আমার জুতা ভাঙা এসেছে, নতুন দিন।",
        "Tamil": "என் கடவுச்சொல்லை மறந்துவிட்டேன், என்ன செய்வது?",
        "Telugu": "నా ఆర్డర్ ఇంకా రాలేదు, ఎప్పుడు వస్తుంది?",
        "Thai": "สินค้าที่ได้รับเสียหาย ขอเปลี่ยนใหม่ได้ไหมคะ",
        "Georgian": "როდის მოვა ჩემი შეკვეთა? უკვე ერთი კვირაა ველოდები.",
        "Armenian": "Ուզում եմ խոսել աշխատակցի հետ, ոչ թե մեքենայի։",
        "Hangul": "주문한 물건이 아직 안 왔는데 언제 도착하나요?",
        "Kana": "返品したいのですが、どうすればいいですか。",
        "Han": "我买的电饭锅坏了，能退款吗？",
        "Ethiopic": "ጥቅሉ እስካሁን አልደረሰም፣ የት ነው ያለው?",
        "Khmer": "ខ្ញុំចង់ប្តូរអាសយដ្ឋានដឹកជញ្ជូន",
        "Emoji": "Parcel arrived 👍🏽 but the 👩‍🔧 part is broken 😡!!",
    }
