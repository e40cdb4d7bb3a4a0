"""A request's body comes in parts, or not at all; whoever waits for it learns which."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.serving.http.problems import BodyTooLargeError
from xlmr.serving.http.request import ClientGoneError, Request


def reading(
    *parts: bytes | None, limit: int = 10, headers: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """The body of a request whose parts come while it is waited for; None hangs up."""

    async def read() -> bytes:
        request = Request("POST", "/", headers)
        waiting = asyncio.ensure_future(request.body(limit))
        for part in parts:
            await asyncio.sleep(0)
            if part is None:
                request.lose()
            else:
                request.feed(part)
        if None not in parts:
            request.end()
        return await waiting

    return asyncio.run(read())


@given(st.lists(st.binary(max_size=4), max_size=6))
def test_a_body_is_put_together(parts: list[bytes]) -> None:
    assert reading(*parts, limit=24) == b"".join(parts)


def test_a_body_of_exactly_the_limit_passes() -> None:
    assert reading(b"12345", b"67890") == b"1234567890"


@pytest.mark.parametrize("headers", [[(b"content-length", b"11")], []])
def test_one_byte_more_does_not(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BodyTooLargeError):
        reading(b"12345", b"678901", headers=headers)


def test_a_declared_length_is_refused_before_a_byte_is_read() -> None:
    async def read() -> None:
        await Request("POST", "/", [(b"content-length", b"11")]).body(10)

    with pytest.raises(BodyTooLargeError):
        asyncio.run(read())


def test_a_hang_up_is_not_a_body() -> None:
    with pytest.raises(ClientGoneError):
        reading(b"12", None)


def test_what_was_here_before_anybody_asked_is_read_at_once() -> None:
    asked: list[bool] = []
    request = Request("POST", "/", on_wanted=lambda: asked.append(True))
    request.feed(b"ab")
    request.end()
    request.lose()
    assert not asked
    assert asyncio.run(request.body(2)) == b"ab"
    assert asked == [True]


def test_of_a_body_that_was_let_go_nothing_is_kept() -> None:
    request = Request("POST", "/")
    request.feed(b"abc")
    request.drop()
    request.feed(b"d" * 1000)
    assert request.buffered < 0
    assert not request._parts


def test_whoever_waits_for_something_else_is_told_of_a_hang_up() -> None:
    told: list[str] = []
    request = Request("POST", "/")
    request.leaving.add(lambda: told.append("gone"))
    request.lose()
    assert told == ["gone"]
