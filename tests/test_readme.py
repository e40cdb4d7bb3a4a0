"""The README is short, and what it tells a stranger to type works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 600


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = "".join(blocks("bash")).replace("\\\n", " ").strip().splitlines()
    return [shlex.split(line) for line in lines]


def test_it_is_short() -> None:
    assert len(TEXT.split()) <= MOST_WORDS


def test_its_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = [command[1] for command in commands() if command[0] == "make"]
    assert targets
    assert not [t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.MULTILINE)]


def test_every_file_it_names_exists() -> None:
    named = re.findall(r"`((?:[\w.-]+/)*[\w-]+(?:\.md|/))`", TEXT)
    assert named
    assert not [name for name in named if not (REPOSITORY / name).exists()]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, starter: Path) -> Path:
    """An empty folder with the examples and, so that nothing is fetched twice, the starter."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    (folder / "models").mkdir()
    (folder / "models" / "starter").symlink_to(starter)
    return folder


def xlmr(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "xlmr", *arguments]


def test_its_commands_work_in_order(work: Path) -> None:
    done = []
    for command in commands():
        if command[0] == "xlmr" and command[1] != "serve":
            ran = subprocess.run(
                xlmr(command[1:]), cwd=work, capture_output=True, text=True, check=False
            )
            assert ran.returncode == 0, ran.stderr
            done.append(command[1])
    assert done == ["import", "train", "evaluate"]

    for block in blocks("python"):
        ran = subprocess.run(
            [sys.executable, "-c", block], cwd=work, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("delivery ")
        assert ran.stdout.rstrip().endswith("False")


def test_its_server_answers_its_curl_lines(work: Path) -> None:
    (serve,) = [c for c in commands() if c[:2] == ["xlmr", "serve"]]
    port = serve.index("--port") + 1
    serve[port] = "0"
    process = subprocess.Popen(
        xlmr([*serve[1:], "--json", "--log-level", "warning"]),
        cwd=work,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        answers = []
        for command in (c for c in commands() if c[0] == "curl"):
            url = next(part for part in command if part.startswith("http"))
            body = command[command.index("-d") + 1].encode()
            header = command[command.index("-H") + 1].split(": ")
            request = urllib.request.Request(
                address + "/" + url.split("/", 3)[3], data=body, headers=dict([header])
            )
            with urllib.request.urlopen(request, timeout=30) as reply:
                answers.append(json.load(reply))
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
    labels = [item["labels"][0]["label"] for item in answers[0]["items"]]
    assert labels == ["delivery", "refund"]
    assert len(answers[1]["data"][0]["embedding"]) == 384
