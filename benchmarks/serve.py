"""`make bench-serve`: our server beside infinity and a plain FastAPI one, and what a request costs.

python benchmarks/serve.py                     base and small; docs/serving-performance.md
python benchmarks/serve.py --shapes small --seconds 5 --rounds 1

All servers have the same model and machine; they are started once and take turns, so those that
are not asked wait. The load comes from a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from request_cost import measure_request_cost
from serve_page import render
from serving_cost import write_model

from xlmr.model.importing.starter import import_starter

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE_S = 300.0


def main() -> None:
    """Measures each shape, then writes the page."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    starter = options.work / "starter"
    if not (starter / "config.json").exists():
        import_starter(starter)
    for shape in options.shapes:
        model = options.work / shape
        if not (model / "model.safetensors").exists():
            write_model(model, starter, shape)
        if "load" in options.only:
            _load(shape, model, options)
    if "cost" in options.only:
        tiny = options.work / "tiny"
        if not (tiny / "model.safetensors").exists():
            write_model(tiny, starter, "tiny")
        _write(options.work / "cost.json", measure_request_cost(tiny))
    loads = {
        shape: _read(options.work / f"load-{shape}.json")
        for shape in ("base", "small")
        if (options.work / f"load-{shape}.json").exists()
    }
    cost = options.work / "cost.json"
    page = REPOSITORY / "docs" / "serving-performance.md"
    page.write_text(render(loads, _read(cost) if cost.exists() else None), encoding="utf-8")
    print(f"wrote {page}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="measure servers, and write the page")
    parser.add_argument("--shapes", nargs="+", default=["base", "small"])
    parser.add_argument("--only", nargs="+", default=["load", "cost"], choices=["load", "cost"])
    parser.add_argument("--seconds", default="8")
    parser.add_argument("--rounds", default="2")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "bench-serve")
    parser.add_argument("--infinity", type=Path, help="infinity_emb's executable")
    return parser.parse_args()


def _load(shape: str, model: Path, options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        targets = []
        for name, command in _peers(model, options).items():
            port = _free_port()
            command = [part.replace("PORT", str(port)) for part in command]
            log = stack.enter_context(open(options.work / f"{name}.log", "wb"))
            stack.enter_context(_running(command, port, log))
            targets.append(f"{name}=http://127.0.0.1:{port}")
        out = options.work / f"load-{shape}.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "xlmr", "bench", "serve", *targets, "--model", str(model)),
                *("--seconds", options.seconds, "--rounds", options.rounds, "--json", str(out)),
            ],
            check=True,
        )


def _peers(model: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Commands that start a server, PORT standing for its port."""
    script = str(REPOSITORY / "benchmarks" / "servers" / "fastapi_onnx.py")
    scratch = str(options.work / f"onnx-{model.name}")
    found = {"fastapi-onnx": [sys.executable, script, str(model), scratch, "PORT"]}
    if options.infinity is not None:
        found["infinity"] = [
            *(str(options.infinity), "v2", "--model-id", str(model), "--port", "PORT"),
            *("--host", "127.0.0.1", "--url-prefix", "/v1", "--engine", "torch"),
            *("--device", "cpu", "--no-model-warmup"),
        ]
    return found


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Any) -> Iterator[None]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    patience = time.monotonic() + PATIENCE_S
    body = json.dumps({"input": "hello", "model": "model"}).encode()
    while True:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/embeddings", body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                if reply.status == 200:
                    return
        except OSError:
            if process.poll() is not None or time.monotonic() > patience:
                raise
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
