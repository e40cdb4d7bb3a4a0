"""What a turn of the loop happens in: rows that are dealt out, a registry and a server, people."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import secrets
import shlex
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlmr.text.codes import short_code

NAME = "topics"

KEEP_TEXTS = '[text]\nkeep = "redacted"\n'
# Seconds instead of hours; and the candidate is meant to answer otherwise.
PLAN = """\
objective_ms = 10000
margin = 0.3
ignore = ["disagreement", "label_mix"]
required = []
[shadow]
share = 1.0
capacity = 0.9
units = 50
minutes = 0.1
[[steps]]
share = 0.25
units = 25
minutes = 0.05
[[steps]]
share = 0.5
units = 50
minutes = 0.05
[watch]
minutes = 0.1
units = 50
"""
# A language with fewer rows held out is not put before the gate.
LEAST_ROWS = 50
# A machine that also bears the traffic says little of latency, and few rows little of calibration
# and of what int8 loses: one of a hundred is a point.
POLICY = f"""\
waive = ["latency", "calibration"]
[language]
margin = 0.1
least_rows = {LEAST_ROWS}
[int8]
margin = 0.03
"""


class TurnError(Exception):
    """A step did not do what it should; said in one line."""


@dataclass(frozen=True)
class Row:
    """A text of the data set, and where it is from."""

    id: str
    text: str
    label: str
    language: str


@dataclass(frozen=True)
class Rows:
    """What each part of the turn may see; translations of one text are in one part.

    Attributes:
        learned: English ones that the first version learns from.
        asked: what people ask, in all languages.
        held_out: the test set.
    """

    learned: list[Row]
    asked: list[Row]
    held_out: list[Row]


def deal(data: Path, languages: Sequence[str], new: str, *, seed: int) -> Rows:
    """Reads the rows and deals them out; of NEW the first version sees three.

    Raises:
        TurnError: there are none.
    """
    rows = [row for path in sorted(data.glob("*.jsonl")) for row in _read(path, languages)]
    if {row.language for row in rows} != set(languages):
        raise TurnError(f"{data}: no rows in each of {', '.join(languages)}")
    ids = sorted({row.id for row in rows})
    random.Random(seed).shuffle(ids)
    part = {id: place * 10 // len(ids) for place, id in enumerate(ids)}
    learned = [row for row in rows if part[row.id] < 3 and row.language == "en"]
    few = [row for row in learned if row.label == new][:3]
    return Rows(
        learned=[row for row in learned if row.label != new] + few,
        asked=[row for row in rows if 3 <= part[row.id] < 7],
        held_out=[row for row in rows if part[row.id] >= 7],
    )


def _read(path: Path, languages: Sequence[str]) -> Iterator[Row]:
    name, split, _ = path.name.split(".")
    language = short_code(name)
    if language in languages:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            id = str(row.get("id", f"{split} {number}"))
            yield Row(id, row["text"], row["label"], language)


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Rows as a file that every verb reads."""
    names = ("id", "text", "label", "language")
    lines = [json.dumps({name: getattr(row, name) for name in names}) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def drifted(rows: Sequence[Row], language: str, new: str) -> list[Row]:
    """As many rows; but of that language three of four are about NEW, of the others none."""
    theirs = [row for row in rows if row.language == language]
    about = [row for row in theirs if row.label == new]
    usual = [row for row in theirs if row.label != new][: len(theirs) // 4]
    others = [row for row in rows if row.language != language and row.label != new]
    return others + usual + [about[n % len(about)] for n in range(3 * len(usual))]


class House:
    """The directory in which everything lies, and the commands that run there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        (root / "policy.toml").write_text(KEEP_TEXTS)
        (root / "gate.toml").write_text(POLICY)
        (root / "plan.toml").write_text(PLAN)
        self.environment = os.environ | {
            "XLMR_CACHE_DIR": str(root / "cache"),
            "XLMR_REGISTRY": str(root / "registry"),
            "XLMR_TRUSTED_KEYS": str(root / "keys" / "trusted"),
            "XLMR_SIGN_KEY": str(root / "keys" / "sign.key"),
            "XLMR_FEEDBACK": str(root / "feedback.db"),
            "XLMR_FEEDBACK_KEY": secrets.token_hex(32),
            "XLMR_FEEDBACK_POLICY": str(root / "policy.toml"),
            "XLMR_FOLLOW_SECONDS": "1",
        }

    def run(self, *words: object, quiet: bool = False) -> str:
        """What a command prints.

        Raises:
            TurnError: it failed; says how.
        """
        said = [str(word) for word in words]
        if not quiet:
            print(f"\n$ xlmr {shlex.join(said)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "xlmr", *said],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            complaint = (done.stderr or done.stdout).strip()
            raise TurnError(f"`xlmr {said[0]}` ended with {done.returncode}: {complaint}")
        return done.stdout

    def json(self, *words: object, quiet: bool = False) -> Any:
        """The same of a command that prints JSON."""
        return json.loads(self.run(*words, "--json", quiet=quiet))

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """A server that follows the registry, for a block; its address.

        Raises:
            TurnError: it did not start.
        """
        words = ["serve", f"registry:{NAME}", "--port", "0", "--json", "--log-level", "warning"]
        print(f"\n$ xlmr {shlex.join(words)}", flush=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "xlmr", *words, "--cache-bytes", "0"],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise TurnError("`xlmr serve` could not start; see above")
            yield json.loads(line)["address"]
        finally:
            process.terminate()
            process.wait()


class People:
    """Who asks: rows drawn by chance, one text a request.

    Attributes:
        labels: the right label of each prediction, by its id: what annotators would know.
        asked: how many answers there were.
        versions: that answered, and how often.
    """

    def __init__(self, address: str, *, seed: int) -> None:
        self.labels: dict[str, str] = {}
        self.asked, self.versions = 0, dict[str, int]()
        self._address, self._chance = address, random.Random(seed)
        # No proxy, whatever the environment says: the server is on this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, row: Row) -> None:
        """One request.

        Raises:
            TurnError: no answer.
        """
        body = json.dumps({"input": row.text}).encode()
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._address}/v1/classify", body, head)
        try:
            with self._opener.open(request, timeout=60) as reply:
                said = json.load(reply)
        except OSError as fault:
            raise TurnError(f"a request was lost: {fault}") from None
        (item,) = said["items"]
        self.asked += 1
        self.labels[item["id"]] = row.label
        version = said["model"]["version"]
        self.versions[version] = self.versions.get(version, 0) + 1

    def draw(self, rows: Sequence[Row], count: int) -> None:
        """So many requests."""
        print(f"\n{count} requests", flush=True)
        for row in self._chance.choices(rows, k=count):
            self.ask(row)

    @contextlib.contextmanager
    def going_on(self, rows: Sequence[Row]) -> Iterator[None]:
        """Requests without end, for a block.

        Raises:
            TurnError: one was lost.
        """
        ends, faults = threading.Event(), queue.Queue[TurnError]()

        def live() -> None:
            try:
                while not ends.is_set():
                    self.ask(self._chance.choice(rows))
            except TurnError as fault:
                faults.put(fault)

        thread = threading.Thread(target=live)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
        if not faults.empty():
            raise faults.get()
