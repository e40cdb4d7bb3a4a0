from __future__ import annotations

import logging
import socket
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.text.language import MINIMUM_CONFIDENCE, UNDETERMINED, identify, identify_many
from xlmr.types import Language

# Written for these tests.
SENTENCES = {
    "en": "I would like to know when my order will arrive.",
    "de": "Ich möchte wissen, wann meine Bestellung endlich ankommt.",
    "fr": "Je voudrais savoir quand ma commande va enfin arriver.",
    "es": "Quisiera saber cuándo va a llegar por fin mi pedido.",
    "it": "Vorrei sapere quando arriverà finalmente il mio ordine.",
    "pl": "Chciałbym wiedzieć, kiedy wreszcie dotrze moje zamówienie.",
    "ru": "Я хотел бы знать, когда наконец придёт мой заказ.",
    "uk": "Я хотів би знати, коли нарешті прийде моє замовлення.",
    "el": "Θα ήθελα να μάθω πότε θα φτάσει επιτέλους η παραγγελία μου.",
    "ar": "أود أن أعرف متى سيصل طلبي أخيرا.",
    "he": "אני רוצה לדעת מתי ההזמנה שלי תגיע סוף סוף.",
    "hi": "मैं जानना चाहता हूँ कि मेरा ऑर्डर कब आएगा।",
    "th": "อยากทราบว่าสินค้าที่สั่งจะมาถึงเมื่อไหร่",
    "ja": "注文した商品がいつ届くのか知りたいです。",
    "ko": "주문한 상품이 언제 도착하는지 알고 싶습니다.",
    "zh": "我想知道我的订单什么时候能到。",
    "tr": "Siparişimin ne zaman geleceğini öğrenmek istiyorum.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_sentences_are_recognised(code: str) -> None:
    found = identify(SENTENCES[code])
    assert found.code == code
    assert MINIMUM_CONFIDENCE <= found.confidence <= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n ",
        "12 345,67 €",
        "!!! ???",
        "😡😡👍🏽",
        "\0",
        "\ud800",
        "Guten Tag \udfff",
        "\u0301",
    ],
)
def test_nothing_is_said_where_there_is_nothing_to_go_by(text: str) -> None:
    assert identify(text) == Language(UNDETERMINED, 0.0)


@pytest.mark.parametrize("text", ["xq zvb", "a" * 1_000_000, "Qwrt"])
def test_an_unlikely_guess_is_undetermined(text: str) -> None:
    found = identify(text)
    assert found.code == UNDETERMINED
    assert found.confidence < MINIMUM_CONFIDENCE


def test_lines_case_and_signs_do_not_matter() -> None:
    plain = identify("wo bleibt denn mein paket")
    assert plain.code == "de"
    for variant in (
        "WO BLEIBT DENN MEIN PAKET",
        "Wo bleibt\ndenn\r\nmein Paket?!",
        "Wo bleibt denn mein Paket 😡😡 (12345)",
        "\u200bWo\0bleibt\u2028denn\tmein Paket",
    ):
        assert identify(variant) == plain


def test_only_the_head_of_a_long_text_is_read() -> None:
    head = SENTENCES["fr"] * 20
    assert identify(head + SENTENCES["ru"] * 1000 + "\ud800") == identify(head)


def test_many_are_the_same_as_one_by_one() -> None:
    texts = [*SENTENCES.values(), "", "\ud800"]
    assert identify_many(texts) == [identify(text) for text in texts]


@given(st.text(st.characters(), max_size=80))
def test_any_text_gets_an_answer(text: str) -> None:
    found = identify(text)
    assert 0 <= found.confidence <= 1
    assert found.code == UNDETERMINED or found.confidence >= MINIMUM_CONFIDENCE


def test_no_connection_is_made_and_no_text_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    caplog.set_level(logging.DEBUG)
    identify("Mein Kennwort lautet Zaubersalz, bitte " + "sehr " * 200)
    assert "Zaubersalz" not in caplog.text
    assert "zaubersalz" not in caplog.text
