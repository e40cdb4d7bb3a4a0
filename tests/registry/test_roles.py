"""Who may do what, by name and by key."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from xlmr.errors import ForbiddenError, SettingsError, UnauthenticatedError
from xlmr.registry.roles import ALL, find_actor, user_name

FILE = f"""
[ada]
roles = ["promote"]

[ci]
roles = ["push"]
key = "{hashlib.sha256(b"s3cret").hexdigest()}"

[gone]
roles = []
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "roles.toml").write_text(FILE)
    return str(tmp_path / "roles.toml")


def test_without_a_file_everybody_may_do_everything() -> None:
    assert find_actor("", name="bo").roles == ALL
    assert find_actor("").name == user_name()


def test_roles_come_from_the_file(path: str) -> None:
    assert find_actor(path, user="ada").roles == {"read", "promote"}
    assert find_actor(path, name="ci", key="s3cret", user="ada").roles == {"read", "push"}
    assert find_actor(path, user="gone").roles == frozenset()
    find_actor(path, user="ada").must("promote")
    with pytest.raises(ForbiddenError, match="ada may promote, read, and this needs push"):
        find_actor(path, user="ada").must("push")


def test_nobody_is_somebody_else(path: str) -> None:
    with pytest.raises(UnauthenticatedError, match="bo is not ada"):
        find_actor(path, name="ada", user="bo")
    for key in ("", "wrong"):
        with pytest.raises(UnauthenticatedError, match="not ci's"):
            find_actor(path, name="ci", key=key, user="ci")
    with pytest.raises(ForbiddenError, match="gives bo no role"):
        find_actor(path, user="bo")


@pytest.mark.parametrize(
    "content",
    [
        "[ada",
        "ada = 3",
        '[ada]\nroles = "push"',
        '[ada]\nroles = ["king"]',
        '[ada]\nroles = ["push"]\nkey = "plain"',
        '[ada]\nroles = ["push"]\nkey = 3',
        '[ada]\nroles = ["push"]\nrole = 1',
        "[ada]\n",
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, content: str) -> None:
    (tmp_path / "roles.toml").write_text(content)
    with pytest.raises(SettingsError, match=r"roles\.toml"):
        find_actor(str(tmp_path / "roles.toml"), user="ada")


def test_no_file_and_no_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        find_actor(str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="printable"):
        find_actor("", name="a\nb")
