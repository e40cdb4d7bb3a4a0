"""What a request costs beside tokenising and inference: processor time, not waiting.

A real server with a tiny model, whose tokeniser, engine and head are timed by the clock of the
thread they run in; the rest of the process's processor time is overhead. Sixteen connections, each
with one text at a time. Cache off; one engine thread, since threads that wait for the next batch
spin for a while. What an empty server costs (httptools on uvloop, one reply of that size) is
measured in turn with it: machines are of different and of changing speed.

python benchmarks/request_cost.py MODEL [--feedback]

With `--feedback` the server keeps records of its answers as well (no texts): `observe` is what that
adds where requests are answered, and the rest of what it costs is in the overhead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xlmr.evaluation.load.connections import Connections
from xlmr.evaluation.load.traffic import Ask, draw_traffic

CONNECTIONS = 16
REQUESTS = 4_000
ROUNDS = 5
_SETTLING_SECONDS = 2.0

# The least a server on the same parser and event loop can do.
_EMPTY = """
import asyncio, httptools, uvloop
reply = b"HTTP/1.1 200 OK\\r\\ncontent-length: 1000\\r\\n\\r\\n" + b" " * 1000
class Empty(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
    def data_received(self, data):
        self.parser.feed_data(data)
    def on_message_complete(self):
        self.transport.write(reply)
async def main():
    server = await asyncio.get_running_loop().create_server(Empty, "127.0.0.1", 0)
    print("http://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


def measure_request_cost(
    model: Path, *, rounds: int = ROUNDS, feedback: bool = False
) -> dict[str, Any]:
    """Microseconds of processor time a request: of the whole server, and of its parts.

    Medians of rounds that alternate with an empty server's.
    """
    asks = draw_traffic(rate=REQUESTS, seconds=1.0, seed=1)
    found: dict[str, list[float]] = {}
    empty = [sys.executable, "-c", _EMPTY]
    ours = [sys.executable, __file__, "--serve", str(model), *(["--feedback"] * feedback)]
    with _started(empty) as (bare, bare_address), _started(ours) as (process, line):
        address = json.loads(line)["address"]
        asyncio.run(_send(address, asks[:400]))
        for _ in range(rounds):
            before, floor = _told(process), _processor_seconds(bare.pid)
            asyncio.run(_send(address, asks))
            # Until what was answered last is written as well.
            time.sleep(_SETTLING_SECONDS if feedback else 0.0)
            after = _told(process)
            asyncio.run(_send(bare_address.strip(), asks))
            spent = {part: after[part] - before[part] for part in after}
            spent["empty"] = _processor_seconds(bare.pid) - floor
            for part, seconds in spent.items():
                found.setdefault(part, []).append(seconds / len(asks) * 1e6)
    medians = {f"{part}_us": statistics.median(each) for part, each in found.items()}
    rest = zip(*(found[part] for part in ("server", "tokenise", "infer")), strict=True)
    overhead = statistics.median(server - tokenise - infer for server, tokenise, infer in rest)
    return {"requests": len(asks), "rounds": rounds, "overhead_us": overhead} | medians


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    # The log is written as it always is, and read by nobody.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.terminate()
        process.communicate()


def _told(process: subprocess.Popen[str]) -> dict[str, float]:
    """Seconds so far, by part, as the server says when it is signalled."""
    assert process.stdout is not None
    process.send_signal(signal.SIGUSR1)
    told: dict[str, float] = json.loads(process.stdout.readline())
    return told


async def _send(address: str, asks: Sequence[Ask]) -> None:
    connections = Connections(address)
    waiting = iter(asks)

    async def one() -> None:
        for ask in waiting:
            reply = await connections.post(ask.path, ask.body)
            if reply.status != 200:
                raise RuntimeError(f"status {reply.status}: {reply.body!r}")

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    connections.close()


def _processor_seconds(pid: int | str) -> float:
    """User and system time of a process and its threads; nanoseconds, by the scheduler."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += int((task / "schedstat").read_text("ascii").split()[0])
    return total / 1e9


def _serve(model: str, *, feedback: bool) -> None:
    """`xlmr serve`, with its tokeniser, engine, heads and observer timed."""
    from xlmr.cli.main import main
    from xlmr.model.predictor import Predictor
    from xlmr.model.runtimes.native import NativeRuntime
    from xlmr.serving.observing.observer import Observer
    from xlmr.serving.preparation import Part

    spent = {"tokenise": 0.0, "infer": 0.0, "observe": 0.0}

    def timed(owner: Any, name: str, part: str) -> None:
        work: Callable[..., Any] = getattr(owner, name)

        def call(*given: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return work(*given, **named)
            finally:
                spent[part] += time.thread_time() - began

        setattr(owner, name, call)

    timed(Predictor, "prepare", "tokenise")
    timed(NativeRuntime, "run", "infer")
    timed(Part, "finish", "infer")
    timed(Observer, "tell", "observe")

    def tell(*_: Any) -> None:
        told = spent | {"server": _processor_seconds("self")}
        print(json.dumps(told), flush=True)

    signal.signal(signal.SIGUSR1, tell)
    options = ["--cache-bytes", "0", "--threads", "1", "--precision", "int8"]
    with tempfile.TemporaryDirectory() as place:
        if feedback:
            options += ["--feedback", f"{place}/feedback.db"]
            os.environ["XLMR_FEEDBACK_KEY"] = "00" * 32
        sys.argv = ["xlmr", "serve", model, "--port", "0", "--json", *options]
        main()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _serve(sys.argv[2], feedback="--feedback" in sys.argv)
    else:
        found = measure_request_cost(Path(sys.argv[1]), feedback="--feedback" in sys.argv)
        print(json.dumps(found, indent=2))
