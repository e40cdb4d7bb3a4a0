"""What `docs/loop.md` tells to type is what `xlmr` takes, and what it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.verbs import unknown_words

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "docs" / "loop.md").read_text(encoding="utf-8")


def test_its_commands_are_verbs_with_options_they_know() -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
    found = [shlex.split(line) for line in block.splitlines()]
    assert [words[1] for words in found] == [
        *("drift", "select", "feedback", "retrain", "retrain", "rollout", "incident"),
    ]
    assert [unknown_words(words[1:]) for words in found] == [set()] * len(found)


def test_every_option_it_names_exists() -> None:
    verbs = [["select"], ["retrain"], ["incident"]]
    for option in set(re.findall(r"`(--[a-z-]+)`", TEXT)):
        assert any(not unknown_words([*verb, option]) for verb in verbs), option


def test_every_place_it_names_exists() -> None:
    assert (REPOSITORY / "examples" / "schedules").is_dir()
    named = re.findall(r"`((?:docs|src|examples)/[\w./-]+)`", TEXT)
    assert named
    assert not [name for name in named if not (REPOSITORY / name).exists()]
