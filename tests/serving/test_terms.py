from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import ForbiddenError, HeaderError, UnauthenticatedError
from xlmr.feedback.record import Hasher
from xlmr.serving.doorkeeper import Doorkeeper
from xlmr.serving.terms import read_terms
from xlmr.types import Caller

headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"authorization",
                b"x-api-key",
                b"x-request-id",
                b"x-request-deadline-ms",
                b"x-request-priority",
                b"x-subject",
                b"host",
            ]
        ),
        st.binary(max_size=80),
    ),
    max_size=8,
)


@given(given=headers)
def test_whatever_headers_hold_there_is_an_id_and_the_rest_is_a_value_or_one_kind_of_error(given):
    terms = read_terms(given)
    assert 0 < len(terms.request_id) <= 64
    assert terms.request_id.isascii()
    terms.credential.encode("latin-1")
    Hasher(b"k" * 16).person(terms.subject)
    for value in (lambda: terms.deadline(10.0), terms.priority):
        with contextlib.suppress(HeaderError):
            value()


@pytest.mark.parametrize(
    ("given", "credential"),
    [
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"x-api-key", b"abc")], "abc"),
        ([(b"authorization", b"Basic xyz"), (b"x-api-key", b"abc")], "abc"),
        ([(b"authorization", b"Basic xyz")], ""),
        ([], ""),
    ],
)
def test_a_key_comes_in_one_of_two_headers(given, credential):
    assert read_terms(given).credential == credential


def test_deadline_and_priority():
    terms = read_terms([(b"x-request-deadline-ms", b"250"), (b"x-request-priority", b"High")])
    assert terms.deadline(10.0) == 10.25
    assert terms.priority() == 0
    assert read_terms([]).deadline(10.0) is None
    assert read_terms([]).priority() == 1


class Kind:
    """Knows one credential; says of those that begin with its letter whether they are right."""

    def __init__(self, known: str) -> None:
        self.known = known

    async def caller(self, credential: str) -> Caller | None:
        if credential[:1] != self.known[:1]:
            return None
        if credential != self.known:
            raise UnauthenticatedError("wrong")
        return Caller(self.known, frozenset({"predict"}))


def ask(keeper: Doorkeeper, credential: str, role: str | None) -> str:
    return asyncio.run(keeper.caller(credential, role)).name


def test_each_kind_of_credential_is_asked_in_turn():
    keeper = Doorkeeper(Kind("a1"), Kind("b1"))
    assert ask(keeper, "a1", "predict") == "a1"
    assert ask(keeper, "b1", "predict") == "b1"
    for wrong in ("a2", "b2", "c", ""):
        with pytest.raises(UnauthenticatedError):
            ask(keeper, wrong, "predict")
    with pytest.raises(ForbiddenError, match="operate"):
        ask(keeper, "a1", "operate")


def test_what_needs_no_role_is_open_and_without_keys_everybody_is_anonymous():
    assert ask(Doorkeeper(Kind("a1")), "nonsense", None) == "anonymous"
    assert ask(Doorkeeper(), "", "operate") == "anonymous"
    few = Doorkeeper(anonymous=Caller(roles=frozenset({"predict"})))
    with pytest.raises(ForbiddenError):
        ask(few, "", "operate")
