"""A support-message router, from nothing to answers over HTTP, by the verbs a person would type.

    python examples/support/demo.py [--exit] [--port 8080] [--state .demo]

It imports the starter model, fits a router on the English messages of `data/`, scores it in every
language, and serves it beside the encoder. Each command is shown before it runs. What has not
changed since the last time is kept: beside each result lies the SHA-256 of everything it was made
from. With --exit it asks its own server three questions, checks the answers, and ends.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).resolve().parent / "data"
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 20

# What is asked at the end, and the label a router worth its name gives.
ARABIC = ("طلبت سماعات قبل أسبوعين ولم تصل بعد، أين الطرد؟", "delivery")
JAPANESE = ("パスワードを忘れてしまい、ログインできません。", "password")
ENGLISH = "Where is my parcel?"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exit", action="store_true", help="check the answers and end")
    parser.add_argument("--port", type=int, default=8080, help="0, and --exit, take a free one")
    parser.add_argument("--state", type=Path, default=ROOT / ".demo", help="where results lie")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        run(options.state.resolve(), port=0 if options.exit else options.port, ends=options.exit)
    except KeyboardInterrupt:
        return 0
    except DemoError as fault:
        print(f"demo: {fault}", file=sys.stderr)
        return 1
    return 0


def run(state: Path, *, port: int, ends: bool) -> None:
    """The whole demo, step by step.

    Raises:
        DemoError: a step failed, the port is taken, or an answer is not sane.
    """
    check_port(port)
    state.mkdir(parents=True, exist_ok=True)
    starter, router, report = state / "starter", state / "router", state / "report.json"
    source = shown(DATA)

    import_made_of = digest(["starter", *package_files("model/importing")])
    step(["import", "starter", "--out", shown(starter)], starter, import_made_of)

    learning = [*package_files("model", "text", "training", "evaluation"), *DATA.glob("en.*.jsonl")]
    train = ["train", "--method", "head", "--encoder", shown(starter), "--train", source]
    train += ["--train-language", "en", "--out", shown(router)]
    train_made_of = digest([*train, import_made_of, *learning])
    step(train, router, train_made_of)

    evaluate = ["evaluate", shown(router), "--data", source, "--json", shown(report)]
    step(evaluate, report, digest([*evaluate, train_made_of, *DATA.glob("*.test.jsonl")]))
    scores = json.loads(report.read_text(encoding="utf-8"))
    summary = (
        f"english={scores['english']:.2f} macro={scores['macro']:.2f} "
        f"worst={scores['worst_value']:.2f} ({scores['worst']})"
    )
    print(f"\naccuracy: {summary}")

    serve = ["serve", shown(router), shown(starter), "--port", str(port), "--json"]
    serve += ["--log-level", "warning"] if ends else []
    with server(serve) as (process, address):
        print(f"\nListening on {address}  ({address}/docs explains). Try:\n")
        for path, body in requests():
            print(curl(address + path, body))
        if ends:
            check_answers(address)
            print(f"\ndemo: ok {summary}")
        else:
            print("\nCtrl-C stops it.", flush=True)
            process.wait()
            raise DemoError("the server ended by itself; its last words stand above")


class DemoError(Exception):
    """Said in one line; the demo ends with 1."""


def step(command: Sequence[str], result: Path, made_of: str) -> None:
    """Runs one command, unless its result was made from exactly the same.

    Raises:
        DemoError: the command failed.
    """
    stamp = result.with_name(result.name + ".sha256")
    before = stamp.read_text().strip() if stamp.exists() else None
    if before == made_of and result.exists():
        announce(command)
        print("  unchanged, kept")
        return
    stamp.unlink(missing_ok=True)  # a step that is interrupted must not look done
    # A model that stands there without a stamp was made by somebody who knew how: `xlmr import`
    # keeps it. `--force` is for results of ours that are out of date.
    replace = ["--force"] if result.is_dir() and (before or command[0] == "train") else []
    announce([*command, *replace])
    done = subprocess.run([*xlmr(), *command, *replace], cwd=ROOT, check=False)
    if done.returncode:
        raise DemoError(f"`xlmr {command[0]}` failed; see above")
    stamp.write_text(made_of + "\n")


@contextmanager
def server(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yields the running server and its address; stops it, draining, whatever happens.

    Raises:
        DemoError: it did not start to listen.
    """
    announce(command)
    process = subprocess.Popen(
        [*xlmr(), *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        # Its own session: Ctrl-C reaches this process alone, which then stops the server once.
        start_new_session=True,
    )
    try:
        yield process, _address(process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    """What the server says first, in one line of JSON; the rest is passed on."""
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
    try:
        first = lines.get(timeout=START_TIMEOUT_S)
    except queue.Empty:
        raise DemoError(f"the server said nothing for {START_TIMEOUT_S} s") from None
    if not first:
        raise DemoError("`xlmr serve` could not start; see above")
    return str(json.loads(first)["address"])


def _pass_on(stream: IO[str], first: queue.Queue[str]) -> None:
    first.put(stream.readline())
    for line in stream:
        print(line, end="", flush=True)


def requests() -> list[tuple[str, dict[str, str]]]:
    """Path and body of the three requests."""
    return [
        ("/v1/classify", {"input": ARABIC[0]}),
        ("/v1/classify", {"input": JAPANESE[0]}),
        ("/v1/embeddings", {"input": ENGLISH, "model": "starter"}),
    ]


def check_answers(address: str) -> None:
    """Sends the three requests and looks at what comes back.

    Raises:
        DemoError: an answer is not sane.
    """
    arabic, japanese, embedding = (post(address + path, body) for path, body in requests())
    print()
    for (text, expected), answer in ((ARABIC, arabic), (JAPANESE, japanese)):
        item = answer["items"][0]
        best = item["labels"][0]
        total = sum(label["score"] for label in item["labels"])
        print(f"{item['language']['code']}  {best['label']} {best['score']:.2f}")
        if best["label"] != expected or abs(total - 1.0) > 1e-3 or item["truncated"]:
            raise DemoError(f"expected {expected} with probabilities of sum 1 for: {text}")
    vector = embedding["data"][0]["embedding"]
    length = math.sqrt(sum(value * value for value in vector))
    print(f"en  {len(vector)} numbers of length {length:.3f}")
    if len(vector) < 2 or not abs(length - 1.0) < 1e-3:
        raise DemoError("expected a sentence vector of length 1")


def post(url: str, body: dict[str, str]) -> dict[str, Any]:
    """The parsed reply.

    Raises:
        DemoError: no reply, or one that is not 200.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    # No proxy, whatever the environment says: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except OSError as fault:
        raise DemoError(f"{url}: {fault}") from None


def curl(url: str, body: dict[str, str]) -> str:
    """The request as a person would type it."""
    said = json.dumps(body, ensure_ascii=False)
    return f"curl -s {url} -H 'content-type: application/json' -d {shlex.quote(said)}"


def check_port(port: int) -> None:
    """Looks before the work, so that nobody waits minutes for this message.

    Raises:
        DemoError: something listens there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as fault:
            raise DemoError(f"port {port} cannot be had ({fault}); try --port {port + 1}") from None


def digest(parts: Iterable[str | Path]) -> str:
    """SHA-256 over words, and over names and content of files."""
    total = hashlib.sha256()
    for part in sorted(parts, key=str):
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        name = part.name if isinstance(part, Path) else ""
        total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def package_files(*folders: str) -> list[Path]:
    """The installed package's sources in these folders, its engine, and its root."""
    spec = importlib.util.find_spec("xlmr")
    if spec is None or spec.submodule_search_locations is None:
        raise DemoError("xlmr is not installed here: pip install '.[fit]'")
    found = set()
    for place in map(Path, spec.submodule_search_locations):
        found |= set(place.glob("*.py"))
        for folder in folders:
            found |= {*(place / folder).rglob("*.py"), *(place / folder).rglob("*.so")}
    return sorted(found)


def xlmr() -> list[str]:
    """The command, of the same installation as this Python."""
    beside = Path(sys.executable).with_name("xlmr")
    if not beside.exists():
        raise DemoError("xlmr is not installed here: pip install '.[fit]'")
    return [str(beside)]


def shown(path: Path) -> str:
    """A path as one would type it in the repository's root, where the commands run."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def announce(command: Sequence[str]) -> None:
    print(f"\n$ xlmr {shlex.join(command)}", flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
