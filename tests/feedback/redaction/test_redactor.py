from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import SettingsError
from xlmr.feedback.redaction.finding import (
    CARD,
    EMAIL,
    NATIONAL_ID,
    PHONE,
    SECRET,
    URL,
    Finding,
    resolve,
)
from xlmr.feedback.redaction.national import ROWS, SHAPE
from xlmr.feedback.redaction.plain import plain
from xlmr.feedback.redaction.pseudonyms import Pseudonyms
from xlmr.feedback.redaction.redactor import Redactor
from xlmr.types import Accounting, Entity, Tagging

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = REPOSITORY / "benchmarks" / "redaction.py"
    spec = importlib.util.spec_from_file_location("redaction_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def hidden(text: str, language: str | None = None) -> str:
    return Redactor()(text, language=language).text


def test_the_test_set_is_found(benchmark: ModuleType) -> None:
    kinds, languages = benchmark.measure(Redactor(), told=True)
    assert len(languages) >= 40
    for kind, score in kinds.items():
        assert score.missed <= 0.1 * (score.found + score.missed), kind
        assert score.wrong <= 0.05 * score.found, kind
    kinds, _ = benchmark.measure(Redactor(), told=False)
    together = benchmark.total(kinds)
    assert together.found >= 0.9 * (together.found + together.missed)
    unseen = benchmark.total(benchmark.measure(Redactor(), told=True, path=benchmark.UNSEEN)[0])
    assert unseen.found >= 0.9 * (unseen.found + unseen.missed)
    assert unseen.wrong <= 0.1 * unseen.found


@pytest.mark.parametrize(
    "harmless",
    [
        "Your password is wrong.",
        "It costs 1,250,000.00 since 2024-03-05 14:30:59.",
        "std::vector<int> a::b at 12:30:45, version 10.0.19045.3803",
        "Commit 9fceb02d0ae598e95dc970b74767f19372d61af8 of 550e8400-e29b-41d4-a716-446655440000",
        "https://example.com/help/articles/how-to-return-an-item-that-does-not-fit",
        "@ann #tag a@b root@localhost",
        "localhost is 127.0.0.1 or ::1",
        "Room 4711, page 12-14, ISBN 978-3-16-148410-0",
        "<EMAIL> <PHONE:abc>",
        "",
    ],
)
def test_what_is_nobodys_stays(harmless: str) -> None:
    assert hidden(harmless, "en") == harmless


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("a@b.de, c@d.org", None, "<EMAIL>, <EMAIL>"),
        ("mail ann@example.com.", "en", "mail <EMAIL>."),
        ("(ann@example.com)", "en", "(<EMAIL>)"),
        ("card 4111-1111-1111-1111 12/27", "en", "card <CARD> 12/27"),
        ("card 4111\u200b1111\u200b1111\u200b1111!", "en", "card <CARD>!"),
        ("card 4111 1111 1111 1112", "en", "card 4111 1111 1111 1112"),
        ("de89370400440532013000", "de", "<IBAN>"),
        ("No12 DE89 3704 0044 0532 0130 00 bis", "de", "No12 <IBAN> bis"),
        ("tel 00 44 20 7946 0958 ok", "en", "tel <PHONE> ok"),
        ("\u202a+49 171 2345678\u202c", "en", "\u202a<PHONE>\u202c"),
        ("see https://u:p@h.example/x now", "en", "see <URL> now"),
        ("https://a.example/x?token=abcd1234.", "en", "<URL>."),
        ("Bearer abcdefgh12345678", "en", "Bearer <SECRET>"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "en", "<SECRET>"),
        ("fe80::1%eth0 and 10.1.2.3:8080", "en", "<IP>%eth0 and <IP>:8080"),
        ("ID 52998224725 oder CPF 52998224726", "de", "ID 52998224725 oder CPF <NATIONAL_ID>"),
        ("half \ud83d a@b.de", "en", "half \ud83d <EMAIL>"),
    ],
)
def test_cases(text: str, language: str | None, expected: str) -> None:
    assert hidden(text, language) == expected


def test_findings_that_overlap_become_one() -> None:
    phone, card = Finding(PHONE, 0, 12), Finding(CARD, 5, 24)
    assert resolve([phone, card]) == [Finding(CARD, 0, 24)]
    assert resolve([Finding(PHONE, 0, 11), Finding(NATIONAL_ID, 0, 11)]) == [
        Finding(NATIONAL_ID, 0, 11)
    ]
    named = Finding(PHONE, 0, 11, True)
    assert resolve([Finding(NATIONAL_ID, 0, 11), named]) == [named]
    assert resolve([Finding(EMAIL, 3, 5), Finding(EMAIL, 0, 3)]) == [
        Finding(EMAIL, 0, 3),
        Finding(EMAIL, 3, 5),
    ]


def test_places_are_of_the_original() -> None:
    text = "a\u200b٤\u2060\u200d\u200d１b\u200b"
    read = plain(text)
    assert read.text == "a41b"
    assert [text[slice(*read.span(n, n + 1))] for n in range(4)] == ["a", "٤", "１", "b"]
    assert read.span(1, 3) == (2, 7)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r.module], ids=lambda r: f"{r.country}-{r.shape}"
)
def test_every_row_has_its_check(row) -> None:
    module = importlib.import_module(f"stdnum.{row.module}")
    assert not module.is_valid("x")
    assert row.pattern.search("") is None


def test_many_countries() -> None:
    assert len({row.country for row in ROWS}) >= 45
    assert len({row.country for row in ROWS if row.needs == SHAPE}) >= 20


class Names:
    """A tagger that knows one name."""

    def tag(self, texts: Sequence[str]) -> list[Tagging]:
        (text,) = texts
        start = text.find("Ann Lee")
        entities = [Entity("PER", start, start + 7, "Ann Lee", 0.9)] if start >= 0 else []
        entities += [Entity("LOC", 0, 2, text[:2], 0.9), Entity("PER", 0, 1, text[:1], 0.2)]
        return [Tagging(tuple(entities), Accounting(1, 1, False, 1, 0))]


def test_a_tagger_finds_names() -> None:
    redactor = Redactor(tagger=Names())
    assert redactor("Dear Ann Lee, ann@example.com").text == "Dear <NAME>, <EMAIL>"


def test_only_the_kinds_that_are_wanted() -> None:
    redactor = Redactor(kinds=[EMAIL])
    assert redactor("a@b.de 4111111111111111").text == "<EMAIL> 4111111111111111"
    with pytest.raises(SettingsError, match="SHOE_SIZE"):
        Redactor(kinds=["SHOE_SIZE"])


def test_pseudonyms_can_be_read_with_the_key_alone() -> None:
    text = "ann@example.com wrote to bob@example.com, and ann@example.com; ٠٥٠ 4111111111111111"
    key = bytes(range(32))
    said = Redactor(pseudonyms=Pseudonyms(key))(text, language="en").text
    assert "example" not in said
    first, second = said.split(" wrote to ")[0], said.split(", and ")[1].split("; ")[0]
    assert first == second
    assert Pseudonyms(key).restore(said) == text
    assert Pseudonyms(bytes(32)).restore(said) == said
    altered = said.replace("<CARD:", "<PHONE:")
    assert Pseudonyms(key).restore(altered) != text
    with pytest.raises(SettingsError, match="16 bytes"):
        Pseudonyms(bytes(16))


@pytest.mark.parametrize(
    "piece",
    ["1", "1 ", "@", "a@", "a.", "a@b.", "AA11 ", "AA11", "+1 ", "(1", ":", "a:1", "x://", "x://a:@",
     "password: ", "eyJ", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "ा", "例", "1-", "1.1.1.",
     "a [at] ", "token is ", "/a1", "\u200b1", "٤ "],
)  # fmt: skip
def test_hostile_texts_take_no_longer_than_others(piece: str) -> None:
    """With anything quadratic this would take minutes."""
    text = piece * (15_000 // len(piece))
    Redactor()(text, language="und")


@given(text=st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_whole(text: str) -> None:
    redacted = Redactor()(text, language="en")
    assert all(0 <= f.start < f.end <= len(text) for f in redacted.findings)
    ends = [f.end for f in redacted.findings]
    assert all(end <= f.start for end, f in zip(ends, redacted.findings[1:], strict=False))
    if not redacted.findings:
        assert redacted.text == text


@given(before=st.text(max_size=20), after=st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_value_is_found_whatever_stands_around_it(before: str, after: str) -> None:
    text = f"{before} ann.lee@example.com, {after}"
    assert "ann.lee@example.com" not in hidden(text, "en")


def test_secrets_inside_urls_are_of_the_url() -> None:
    text = "https://a.example/?api_key=AKIAIOSFODNN7EXAMPLE&x=ann@example.com"
    assert [f.kind for f in Redactor()(text, language="en").findings] == [URL]
    assert SECRET in [f.kind for f in Redactor(kinds=[SECRET])(text, language="en").findings]
