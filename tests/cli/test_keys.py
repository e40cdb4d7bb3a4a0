"""`xlmr keys`: what it prints, what it writes, and that two at a time lose nothing."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from xlmr.cli.keys import keys_command
from xlmr.errors import UnauthenticatedError
from xlmr.serving.keys import Keyring


def run(*arguments: object) -> str:
    result = CliRunner().invoke(keys_command, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def fails(*arguments: object) -> str:
    result = CliRunner().invoke(keys_command, [str(one) for one in arguments])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "keys.jsonl"


def caller(file: Path, key: str):
    return asyncio.run(Keyring(file).caller(key))


def test_a_new_key_is_printed_once_and_opens_the_server(file):
    key = run("new", "shop", "--file", file, "--role", "predict", "--role", "operate").strip()
    assert caller(file, key).roles == {"predict", "operate"}
    assert key.split("_", 2)[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in run("list", "--file", file)


def test_quotas_and_expiry_are_kept_and_shown(file):
    key = run(
        "new", "shop", "--file", file, "--days", 30, "--tokens-per-s", 500, "--requests-per-s", 2
    ).strip()
    quota = caller(file, key).quota
    assert (quota.tokens_per_s, quota.requests_per_s) == (500, 2)
    shown = " ".join(run("list", "--file", file).split())
    assert "2 requests/s" in shown
    assert "UTC" in shown
    assert caller(file, key).roles == {"predict"}


def test_keys_are_rotated_one_by_one(file):
    old = run("new", "shop", "--file", file).strip()
    new = run("new", "shop", "--file", file).strip()
    run("revoke", old.split("_")[1], "--file", file)
    assert caller(file, new).name == "shop"
    with pytest.raises(UnauthenticatedError):
        caller(file, old)
    run("revoke", "shop", "--file", file)
    with pytest.raises(UnauthenticatedError):
        caller(file, new)


def test_what_cannot_be_is_one_clear_error_and_changes_nothing(file):
    assert "no name" in fails("new", "a b", "--file", file)
    run("new", "shop", "--file", file)
    before = file.read_bytes()
    assert "no key has this id or name: nobody" in fails("revoke", "nobody", "--file", file)
    assert "nowhere" in fails("list", "--file", file.parent / "nowhere")
    assert "keys.jsonl" in fails("new", "x", "--file", file.parent / "nowhere" / "keys.jsonl")
    assert file.read_bytes() == before
    file.write_text("not a key\n")
    assert "line 1" in fails("new", "x", "--file", file)
    assert file.read_text() == "not a key\n"


def test_the_file_keeps_its_mode_and_nothing_lies_beside_it(file):
    run("new", "shop", "--file", file)
    file.chmod(0o640)
    # As one leaves it that was killed in the middle, with our number.
    (file.parent / f".keys.jsonl.{os.getpid()}").write_text("half")
    run("new", "other", "--file", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(file.parent.iterdir()) == [file]


def test_two_at_a_time_lose_nothing(file):
    code = (
        "import sys; from xlmr.cli.keys import keys_command\n"
        "for n in range(5): keys_command(['new', f'{sys.argv[2]}-{n}', '--file', sys.argv[1]],"
        " standalone_mode=False)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(file), name], stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b", "c")
    ]
    printed = [key for one in processes for key in one.communicate(timeout=60)[0].split()]
    names = {json.loads(line)["name"] for line in file.read_text().splitlines()}
    assert names == {f"{name}-{n}" for name in "abc" for n in range(5)}
    assert {caller(file, key).name for key in printed} == names
