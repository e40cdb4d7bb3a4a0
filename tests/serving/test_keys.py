"""Keys open what their roles say, from the moment they stand in the file until they do not."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import DataError, SettingsError, UnauthenticatedError
from xlmr.serving import keys
from xlmr.serving.keys import Keyring, new_key, read_entries, write_entries
from xlmr.types import Quota


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "keys.jsonl"
    path.write_bytes(b"")
    return path


def ask(ring: Keyring, credential: str):
    return asyncio.run(ring.caller(credential))


def replace(path: Path, *entries) -> None:
    """As `xlmr keys` does it: at once."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(write_entries(entries))
    os.replace(fresh, path)


def test_a_key_opens_what_its_roles_say(file, clock):
    quota = Quota(tokens_per_s=100)
    key, entry = new_key("shop", roles=("predict", "feedback"), quota=quota)
    replace(file, entry)
    caller = ask(Keyring(file, clock=clock), key)
    assert (caller.name, caller.roles) == ("shop", {"predict", "feedback"})
    assert caller.quota == quota


def test_the_file_does_not_hold_the_key(file):
    key, entry = new_key("shop")
    replace(file, entry)
    secret = key.split("_", 2)[2]
    assert len(secret) >= 43
    assert secret not in file.read_text()
    assert key not in file.read_text()
    other_key, other = new_key("shop")
    assert {entry.salt, entry.hash}.isdisjoint({other.salt, other.hash})
    assert other_key != key


@given(at=st.integers(0, 200), letter=st.characters(codec="latin-1"))
def test_a_key_with_any_letter_changed_opens_nothing(at, letter, tmp_path_factory):
    key, entry = new_key("shop")
    path = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    path.write_bytes(write_entries([entry]))
    at %= len(key)
    wrong = key[:at] + letter + key[at + 1 :]
    if wrong == key:
        return
    with contextlib.suppress(UnauthenticatedError):
        assert ask(Keyring(path), wrong) is None


def test_hashes_are_compared_in_constant_time_also_where_there_is_no_such_key(
    file, clock, monkeypatch
):
    compared = []
    original = hmac.compare_digest

    def compare(a: str, b: str) -> bool:
        compared.append((len(a), len(b)))
        return original(a, b)

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    key, entry = new_key("shop")
    replace(file, entry)
    ring = Keyring(file, clock=clock)
    assert ask(ring, key)
    stranger, _ = new_key("shop")
    with pytest.raises(UnauthenticatedError):
        ask(ring, stranger)
    assert compared == [(64, 64), (64, 64)]


def test_an_expired_key_opens_nothing(file, clock):
    key, entry = new_key("shop", expires=2000.0)
    replace(file, entry)
    today = Clock()
    ring = Keyring(file, clock=clock, now=today)
    assert ask(ring, key)
    today.now = 2000.0
    with pytest.raises(UnauthenticatedError, match="expired"):
        ask(ring, key)


def test_keys_come_and_go_without_a_restart(file, clock):
    old, old_entry = new_key("shop")
    new, new_entry = new_key("shop")
    replace(file, old_entry)
    ring = Keyring(file, clock=clock)
    replace(file, old_entry, new_entry)
    clock.now += 1
    assert ask(ring, new).name == ask(ring, old).name == "shop"
    replace(file, new_entry)
    clock.now += 1
    with pytest.raises(UnauthenticatedError):
        ask(ring, old)
    assert ask(ring, new)


@pytest.mark.parametrize(
    "broken",
    [
        b'{"id": "xx"}\n',
        b"not json\n",
        b"\xff\xfe\n",
        b'{"id":"0123456789abcdef","name":"a b","salt":"","hash":""}\n',
    ],
)
def test_a_broken_file_keeps_the_old_keys_and_says_so_once(file, clock, broken, caplog):
    key, entry = new_key("shop")
    replace(file, entry)
    ring = Keyring(file, clock=clock)
    file.write_bytes(broken)
    for _ in range(3):
        clock.now += 1
        assert ask(ring, key)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "line 1" in caplog.text
    other, other_entry = new_key("other")
    replace(file, other_entry)
    clock.now += 1
    assert ask(ring, other)


def test_a_file_that_is_gone_keeps_the_old_keys_until_it_is_back(file, clock, caplog):
    key, entry = new_key("shop")
    replace(file, entry)
    ring = Keyring(file, clock=clock)
    file.unlink()
    for _ in range(3):
        clock.now += 1
        assert ask(ring, key)
    assert len(caplog.records) == 1
    replace(file)
    clock.now += 1
    with pytest.raises(UnauthenticatedError):
        ask(ring, key)


def test_many_who_ask_while_the_file_changes_all_see_the_change(file, clock):
    _, old_entry = new_key("shop")
    new, new_entry = new_key("shop")
    replace(file, old_entry)
    ring = Keyring(file, clock=clock)
    replace(file, new_entry)
    clock.now += 1

    async def all_ask():
        return await asyncio.gather(*(ring.caller(new) for _ in range(50)), return_exceptions=True)

    first, *rest = asyncio.run(all_ask())
    assert first.name == "shop"
    # Whoever asked in the moment of the change may still be told of the old keys, never wrongly
    # that a key of them is good for more.
    assert all(isinstance(one, UnauthenticatedError) or one.name == "shop" for one in rest)
    assert ask(ring, new)


def test_no_file_is_one_clear_error(tmp_path):
    with pytest.raises(SettingsError, match="nowhere"):
        Keyring(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(("name", "roles"), [("a b", ("predict",)), ("a", ("root",)), ("a", ())])
def test_names_and_roles_that_are_none_are_refused(name, roles):
    with pytest.raises(SettingsError):
        new_key(name, roles=roles)


def test_entries_survive_the_file():
    entries = [
        new_key("a", expires=1.5, quota=Quota(requests_per_s=2.5))[1],
        new_key("b", roles=("operate",))[1],
    ]
    data = b"# made by hand\n\n" + write_entries(entries)
    assert read_entries(data, "f") == entries
    with pytest.raises(DataError, match="line 5: this id stands there twice"):
        read_entries(data + write_entries(entries[:1]), "f")
    with pytest.raises(DataError, match=r"line 1: .*expire"):
        read_entries(write_entries(entries[:1]).replace(b"expires", b"expire"), "f")
    with pytest.raises(DataError, match="quota"):
        read_entries(write_entries(entries[:1]).replace(b":2.5", b":-2.5"), "f")


def test_it_is_used_by_several_threads(file, clock):
    key, entry = new_key("shop")
    replace(file, entry)
    ring = Keyring(file, clock=clock)
    found = []

    def go() -> None:
        for _ in range(20):
            clock.now += 1
            file.touch()
            found.append(ask(ring, key).name)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == ["shop"] * 80
