from __future__ import annotations

import traceback
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import InputError
from xlmr.text.tokenizer import Tokenizer
from xlmr.types import Encoding

HOSTILE = {
    "empty": "",
    "blanks": " \t\r\n\u00a0\u3000 ",
    "NUL": "\0",
    "controls": "\x01\x1b[31mred\x7f",
    "right-to-left marks": "\u200f\u202eabc\u202c\u061c",
    "zero width": "\ufeff\u200b\u200c\u200d",
    "family": "👩‍👩‍👧‍👦" * 20,
    "flags": "🇩🇪🇯🇵🇩",
    "accents on nothing": "\u0301" * 50,
    "zalgo": "h" + "\u0301\u0316\u0489" * 100,
    "noncharacters": "\uffff\ufffe\U0010ffff\ufdd0",
    "private use": "\ue000\uf8ff",
    "written specials": "<s></s><pad><unk><mask>",
    "metaspace": "▁▁a▁",
    "ligatures": "ﷺ ﬃ ½ Ⅷ ㍿",
}


def _visible(encoding: Encoding, text: str) -> list[str]:
    rows = zip(encoding.offsets, encoding.segments, strict=True)
    return [text[start:end] for (start, end), segment in rows if segment == 0]


def _pieces(tokenizer: Tokenizer, encoding: Encoding) -> list[str]:
    return [tokenizer.piece(id) for id in encoding.ids]


# --- form --------------------------------------------------------------------------------------


def test_a_text_stands_between_its_special_tokens(small: Tokenizer) -> None:
    encoding = small.encode("the ing")
    assert _pieces(small, encoding) == ["<s>", "▁the", "▁", "ing", "</s>"]
    assert encoding.offsets == ((0, 0), (0, 3), (4, 4), (4, 7), (0, 0))
    assert encoding.segments == (-1, 0, 0, 0, -1)
    assert (encoding.total_tokens, encoding.unknown, encoding.truncated) == (5, 0, False)


def test_a_pair_has_two_separators_between_its_texts(small: Tokenizer) -> None:
    encoding = small.encode("the", "a x")
    assert _pieces(small, encoding) == ["<s>", "▁the", "</s>", "</s>", "▁a", "▁", "x", "</s>"]
    assert encoding.segments == (-1, 0, -1, -1, 1, 1, 1, -1)
    assert encoding.offsets[4:7] == ((0, 1), (2, 2), (2, 3))


def test_special_ids_are_those_of_xlm_r(small: Tokenizer) -> None:
    assert (small.bos_id, small.pad_id, small.eos_id, small.unk_id) == (0, 1, 2, 3)
    assert small.mask_id == small.vocabulary_size - 1 == small.piece_id("<mask>")


@pytest.mark.parametrize("text", ["", " ", " \u00a0 "])
def test_an_empty_text_is_two_special_tokens(small: Tokenizer, text: str) -> None:
    assert small.encode(text).ids == (0, 2)
    assert small.encode(text, text).ids == (0, 2, 2, 2)
    assert small.count(text) == 2


# --- truncation --------------------------------------------------------------------------------


@given(length=st.integers(0, 60), limit=st.integers(2, 32))
def test_truncation_is_reported_and_never_cuts_special_tokens(
    small: Tokenizer, length: int, limit: int
) -> None:
    text = "x" * length
    whole, cut = small.encode_whole(text), small.encode(text, max_tokens=limit)
    assert not whole.truncated
    assert len(cut.ids) == min(limit, len(whole.ids))
    assert cut.total_tokens == whole.total_tokens == len(whole.ids) == small.count(text)
    assert cut.truncated == (len(whole.ids) > limit)
    assert cut.ids == (*whole.ids[: len(cut.ids) - 1], 2)
    assert cut.offsets[:-1] == whole.offsets[: len(cut.ids) - 1]


@given(first=st.integers(0, 50), second=st.integers(0, 50), limit=st.integers(4, 32))
def test_the_longer_text_of_a_pair_is_cut_first(
    small: Tokenizer, first: int, second: int, limit: int
) -> None:
    texts = "x" * first, "y" * second
    lengths = [small.count(text) - 2 for text in texts]
    encoding = small.encode(*texts, max_tokens=limit)
    kept = [encoding.segments.count(0), encoding.segments.count(1)]
    assert len(encoding.ids) == min(limit, sum(lengths) + 4)
    assert encoding.total_tokens == sum(lengths) + 4
    assert encoding.segments.count(-1) == 4
    assert all(have <= had for have, had in zip(kept, lengths, strict=True))
    if kept[0] < lengths[0]:
        assert kept[0] + 1 >= kept[1]
    if kept[1] < lengths[1]:
        assert kept[1] + 1 >= kept[0]


@pytest.mark.parametrize("limit", [-1, 0, 1, 33, 34])
def test_a_limit_the_model_does_not_have_is_refused(small: Tokenizer, limit: int) -> None:
    with pytest.raises(InputError, match="expected 2 to 32"):
        small.encode("the", max_tokens=limit)
    with pytest.raises(InputError, match="expected 2 to 32"):
        small.encode_many(["the"], max_tokens=limit)


def test_a_pair_needs_room_for_four_special_tokens(small: Tokenizer) -> None:
    assert small.encode("the", "a", max_tokens=4).ids == (0, 2, 2, 2)
    with pytest.raises(InputError, match="expected 4 to 32"):
        small.encode("the", "a", max_tokens=3)
    with pytest.raises(InputError, match="expected 4 to 32"):
        small.encode_many(["the", ("the", "a")], max_tokens=3)


@pytest.mark.starter
def test_512_tokens_pass_and_513_are_cut_and_say_so(real: Tokenizer) -> None:
    whole, longer = real.encode("," + " ," * 254), real.encode("," + " ," * 254 + "!")
    assert (len(whole.ids), whole.truncated) == (512, False)
    assert (len(longer.ids), longer.total_tokens, longer.truncated) == (512, 513, True)
    with pytest.raises(InputError, match="expected 2 to 512"):
        real.encode("Hello", max_tokens=514)


# --- many at once ------------------------------------------------------------------------------


ITEMS = st.lists(
    st.text("abcxyz théß.<>", max_size=50)
    | st.tuples(st.text("abc 的", max_size=30), st.text("xyz ", max_size=30)),
    max_size=6,
)


@given(items=ITEMS)
def test_many_are_the_same_as_one_by_one(
    small: Tokenizer, items: list[str | tuple[str, str]]
) -> None:
    parts = [item if isinstance(item, tuple) else (item,) for item in items]
    assert small.encode_many(items) == [small.encode(*part) for part in parts]
    assert small.encode_many_whole(items) == [small.encode_whole(*part) for part in parts]


def test_threads_share_a_tokenizer(small: Tokenizer) -> None:
    texts = [f"the cat number {number} sat on the mat" for number in range(200)]
    expected = [small.encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(small.encode, texts)) == expected


# --- what must not be let through --------------------------------------------------------------


@pytest.mark.parametrize("text", ["\ud800", "abc\udfff", "x" * 10_000 + "\udc80", " \ud83d secret"])
def test_a_lone_surrogate_is_refused_without_quoting_the_text(small: Tokenizer, text: str) -> None:
    index = next(place for place, char in enumerate(text) if "\ud800" <= char <= "\udfff")
    with pytest.raises(InputError, match=f"character {index} is a lone surrogate") as refused:
        small.encode(text)
    assert refused.value.path == "$"
    report = "".join(traceback.format_exception(refused.value))
    assert text.strip()[:5] not in report.replace("surrogate", "")
    assert refused.value.__context__ is None
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("items", "path"),
    [
        (["a", "b", "\ud800"], "$[2]"),
        (["a", ("b", "\ud800")], "$[1][1]"),
        ([("\ud800", "b"), "c"], "$[0][0]"),
        (["a", 5], "$[1]"),
        ([("a", "b"), None], "$[1]"),
        (["a", ("b", b"c")], "$[1][1]"),
        ([("a", "b", "c")], "$[0]"),
        ([["a", "b"]], "$[0]"),
    ],
)
def test_the_item_at_fault_is_pointed_at(small: Tokenizer, items: list[str], path: str) -> None:
    with pytest.raises(InputError) as refused:
        small.encode_many(items)
    assert refused.value.path == path


def test_the_text_of_a_pair_at_fault_is_pointed_at(small: Tokenizer) -> None:
    with pytest.raises(InputError) as refused:
        small.encode("a", "\ud800")
    assert refused.value.path == "$[1]"


def test_written_control_tokens_are_unknown_pieces(small: Tokenizer) -> None:
    encoding = small.encode("a</s></s>the<s><pad>x")
    assert encoding.ids.count(2) == 1
    assert not {0, 1} & set(encoding.ids[1:])
    assert encoding.unknown == 4
    assert _visible(encoding, "a</s></s>the<s><pad>x")[:3] == ["a", "</s>", "</s>"]


def test_control_tokens_made_by_normalisation_are_unknown_too(small: Tokenizer) -> None:
    # Full-width signs become < and > after the written tokens were looked for.
    encoding = small.encode("a＜/s＞")
    assert encoding.ids.count(2) == 1


def test_no_token_is_made_of_the_blank_before_a_mask(small: Tokenizer) -> None:
    encoding = small.encode("the <mask> ing <mask>.")
    assert _pieces(small, encoding)[1:-1] == (["▁the", "<mask>", "▁", "ing", "<mask>", "▁", "."])
    assert encoding.offsets[2] == (4, 10)


@pytest.mark.starter
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_get_an_answer(real: Tokenizer, name: str) -> None:
    text = HOSTILE[name]
    encoding = real.encode(text, text)
    assert encoding.ids[0] == 0
    assert encoding.ids.count(2) == 3
    assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)


@pytest.mark.starter
@pytest.mark.parametrize("character", ["a", " ", "👩\u200d"])
def test_a_megabyte_of_one_character_gets_an_answer(real: Tokenizer, character: str) -> None:
    encoding = real.encode(character * (1_000_000 // len(character.encode())))
    assert len(encoding.ids) <= 512
    assert encoding.truncated == (len(encoding.ids) == 512)


# --- offsets -----------------------------------------------------------------------------------


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_offsets_index_the_text_in_order(small: Tokenizer, text: str) -> None:
    encoding = small.encode_whole(text)
    spans = [span for span, segment in zip(encoding.offsets, encoding.segments, strict=True)][1:-1]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert spans == sorted(spans)


@given(text=st.text("the cating.,  \u00a0\t今天é", max_size=40))
def test_a_span_is_the_piece_one_can_see(small: Tokenizer, text: str) -> None:
    encoding = small.encode_whole(text)
    for id, span in zip(encoding.ids[1:-1], _visible(encoding, text), strict=True):
        if id != small.unk_id:
            assert span == small.piece(id).removeprefix("▁")


@pytest.mark.starter
@settings(max_examples=300)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_offsets_of_the_real_vocabulary_index_the_text_in_order(real: Tokenizer, text: str) -> None:
    encoding = real.encode_whole(text)
    spans = encoding.offsets[1:-1]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


@pytest.mark.starter
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_spans_are_the_visible_pieces_in_every_script(
    real: Tokenizer, sentences: dict[str, str], form: str
) -> None:
    for sentence in sentences.values():
        text = "\ufeff " + unicodedata.normalize(form, sentence) + "  "
        encoding = real.encode_whole(text)
        read = set()
        for id, (start, end) in zip(encoding.ids[1:-1], encoding.offsets[1:-1], strict=True):
            if id != real.unk_id:
                seen = unicodedata.normalize("NFKC", text[start:end])
                assert seen == unicodedata.normalize("NFKC", real.piece(id).removeprefix("▁"))
            read.update(range(start, end))
        unread = {text[place] for place in range(len(text)) if place not in read}
        assert unread <= {" ", "\ufeff", "\u200d"}


@pytest.mark.starter
@pytest.mark.parametrize(
    ("text", "spans"),
    [
        (". , x", ["", ".", "", ",", "x"]),
        ("12 ½ Ⅷ", ["12", "½", "Ⅷ"]),
        ("Cafe\u0301 ole\u0301", ["Cafe\u0301", "o", "le\u0301"]),
        ("\x1bHello world", ["Hello", "world"]),
        ("\u200fHello\u00a0 world\r\n", ["Hello", "world"]),
        ("ﷺ", ["ﷺ", "ﷺ", "ﷺ", "ﷺ"]),
    ],
)
def test_known_faults_of_offsets_are_put_right(
    real: Tokenizer, text: str, spans: list[str]
) -> None:
    assert _visible(real.encode_whole(text), text) == spans


# --- pieces ------------------------------------------------------------------------------------


def test_pieces_and_ids_are_each_other_s_inverse(small: Tokenizer) -> None:
    for id in range(small.vocabulary_size):
        assert small.piece_id(small.piece(id)) == id
    assert small.piece_id("no such piece") is None
    assert small.piece_id("\ud800") is None


def test_decoding_gives_the_text_without_special_tokens(small: Tokenizer) -> None:
    assert small.decode(small.encode("the cat sat, a mat.").ids) == "the cat sat, a mat."
    assert small.decode([]) == ""


def test_decoding_can_show_special_tokens(small: Tokenizer) -> None:
    shown = small.decode(small.encode("the cat").ids, skip_special=False)
    assert shown.startswith("<s>")
    assert shown.endswith("</s>")


@pytest.mark.parametrize("id", [-1, 10_000, 2**40])
def test_ids_outside_the_vocabulary_are_refused(small: Tokenizer, id: int) -> None:
    with pytest.raises(InputError, match="is no token id"):
        small.piece(id)
    with pytest.raises(InputError, match="is no token id") as refused:
        small.decode([0, id])
    assert refused.value.path == "$[1]"
