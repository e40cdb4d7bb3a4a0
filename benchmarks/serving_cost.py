"""What serving costs beside tokens a second: time to the first answer, and memory that stays put.

The model has XLM-R base's shape with all its 250,002 vocabulary rows, random weights, and the
starter model's tokenizer, which is XLM-R's own.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from xlmr.evaluation.speed.subject import SHAPES, random_subject
from xlmr.model.config import EncoderConfig
from xlmr.model.importing.writing import StoredArray, write_safetensors
from xlmr.model.weights import name_table
from xlmr.text.tokenizer import Tokenizer

Array = NDArray[np.float32]
LAUNCHES = 5
CONNECTIONS = 4
CHECKPOINTS = 10

# Runs in a process of its own: imports count, nothing is warm but the page cache.
_FIRST_ANSWER = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
from xlmr.model.bundle import open_bundle
from xlmr.model.predictor import Predictor
from xlmr.model.runtimes import open_runtime
imported = time.perf_counter()
cache = Path(sys.argv[2])
bundle = open_bundle(Path(sys.argv[1]), cache_dir=cache)
opened = time.perf_counter()
runtime = open_runtime(bundle, precision="int8", cache_dir=cache)
engine = time.perf_counter()
Predictor(bundle, runtime).embed(["hello"])
answered = time.perf_counter()
print(json.dumps({"imports_s": imported - began, "tokenizer_s": opened - imported,
                  "engine_s": engine - opened, "answer_s": answered - engine}))
"""


# So small that what a request costs beside inference is not lost in it.
_TINY = replace(SHAPES["small"], hidden=64, layers=1, heads=2, intermediate=256)


def write_model(directory: Path, starter: Path, shape: str = "base") -> None:
    """Writes a model directory with all of XLM-R's vocabulary and random weights.

    `shape` is one of `SHAPES`, or `tiny`.
    """
    config = (SHAPES | {"tiny": _TINY})[shape]
    write_encoder(directory, starter, config, random_subject(shape, config=config).read)


def write_encoder(
    directory: Path, starter: Path, config: EncoderConfig, read: Callable[[str], Array]
) -> None:
    """Writes a model directory with the weights that `read` gives by our names.

    The tokenizer is the starter's.
    """
    directory.mkdir(parents=True)
    shutil.copy(starter / "tokenizer.json", directory / "tokenizer.json")
    fields = {
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaModel"],
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.position_rows,
        "type_vocab_size": 1,
        "layer_norm_eps": config.norm_epsilon,
        "pad_token_id": config.pad_id,
    }
    (directory / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    names = name_table(config)

    def stored(ours: str) -> StoredArray:
        array = read(ours)
        return StoredArray(names[ours], "F32", array.shape, lambda: [array])

    write_safetensors(directory / "model.safetensors", [stored(name) for name in names])


def measure_start(model: Path, cache_dir: Path, *, tell: Callable[[str], None]) -> dict[str, float]:
    """Median seconds from a directory to its first answer, and of the parts.

    The first launch prepares the weights and warms the page cache; it is not counted.
    """
    launches: list[dict[str, float]] = []
    for launch in range(LAUNCHES + 1):
        tell(f"launch {launch} of {LAUNCHES}")
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _FIRST_ANSWER, str(model), str(cache_dir)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        total = time.perf_counter() - began
        launches.append({"process_s": total} | json.loads(done.stdout))
    counted = launches[1:]
    return {part: statistics.median(one[part] for one in counted) for part in counted[0]}


def measure_memory(
    model: Path, cache_dir: Path, *, requests: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Resident memory of a server while it answers requests of random lengths.

    Returns:
        `requests`, `seconds`, `tokens`, and `samples`: requests so far, resident MiB, and the part
        of that which is no mapped file.
    """
    texts = _texts(Tokenizer.from_file(model / "tokenizer.json", max_tokens=512), requests)
    chunk = max(1, -(-requests // CHECKPOINTS))
    with running_server(str(model), "--cache-dir", str(cache_dir), "--cache-bytes", "0") as (
        process,
        address,
    ):
        samples = [_resident(process.pid, 0)]
        began, tokens = time.perf_counter(), 0
        for start in range(0, requests, chunk):
            now = texts[start : start + chunk]
            with ThreadPoolExecutor(CONNECTIONS) as connections:
                parts = (now[i::CONNECTIONS] for i in range(CONNECTIONS))
                tokens += sum(connections.map(lambda part: ask(address, part), parts))
            samples.append(_resident(process.pid, start + len(now)))
            tell(f"{samples[-1]['requests']} requests, {samples[-1]['resident_mib']:.0f} MiB")
        seconds = time.perf_counter() - began
    return {"requests": requests, "seconds": seconds, "tokens": tokens, "samples": samples}


def _texts(tokenizer: Tokenizer, count: int) -> list[str]:
    """Texts of random pieces: a server that sees all of the vocabulary holds all of its rows."""
    generator = np.random.default_rng(0)
    drawn = np.exp(generator.normal(np.log(24), 0.9, count)).round()
    return [
        tokenizer.decode(generator.integers(5, tokenizer.vocabulary_size - 1, length).tolist())
        for length in drawn.clip(1, 600).astype(int)
    ]


@contextmanager
def running_server(model: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Our server with one model, as `xlmr serve` is told of it, and its address, for a block."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from xlmr.cli.main import main; main()", "serve"),
            *(model, "--port", "0", "--json", "--precision", "int8"),
            *("--log-level", "error", *options),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start; its reason is printed above")
        yield process, json.loads(line)["address"]
    finally:
        process.terminate()
        process.communicate()


def ask(address: str, texts: list[str]) -> int:
    """Sends texts one after the other; returns their tokens."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    tokens = 0
    for text in texts:
        body = json.dumps({"input": text})
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/embeddings", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {answer}")
        tokens += answer["usage"]["total_tokens"]
    connection.close()
    return tokens


def _resident(pid: int, requests: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    kib = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    return {
        "requests": requests,
        "resident_mib": int(kib["VmRSS"]) / 1024,
        "anonymous_mib": int(kib["RssAnon"]) / 1024,
    }
