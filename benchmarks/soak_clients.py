"""Clients of a soaked server: some ask well, in every shape, some ask what cannot be answered, and
some hang up wherever they stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import grpc.aio

from xlmr.evaluation.load.connections import Connections, Reply
from xlmr.evaluation.load.traffic import draw_traffic
from xlmr.serving.grpc.messages import inference, native

# One in so many answers gets feedback.
FEEDBACK_EVERY = 5
_REFUSALS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
# Bodies that cannot be answered, and what must be said of each.
MALFORMED = (
    ("/v1/classify", b"{", 400),
    ("/v1/classify", b"[]", 422),
    ("/v1/classify", b'{"input": 3}', 422),
    ("/v1/classify", b'{"input": [], "nonsense": 1}', 422),
    ("/v1/classify", b'{"input": "a", "model": "nobody"}', 404),
    ("/v1/classify", b'{"input": "' + b"a " * 3000 + b'", "long": "error"}', 422),
    ("/v1/embeddings", b'{"input": {"a": 1}}', 422),
    ("/v1/embeddings", b'{"input": "a", "dimensions": 0}', 422),
    ("/v1/nowhere", b"{}", 404),
    ("/v1/classify", b"x" * 6_000_000, 413),
)


@dataclass
class Seen:
    """What happened; statuses by door, calls by their gRPC status."""

    statuses: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    feedback: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    swaps: int = 0
    rude: int = 0
    resident_mib: list[float] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)


def in_some_shape(text: str, model: str) -> tuple[str, dict[str, Any]]:
    """A text as one of the doors asks for its label, or for its tokens."""
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    return random.choice(
        (
            ("/v1/classify", {"input": text}),
            ("/v1/classify", {"input": [text] * random.randint(2, 16)}),
            ("/v1/classify", {"input": text * 40, "long": "window"}),
            ("/v1/tokenize", {"input": text}),
            ("/predict", {"inputs": text}),
            ("/invocations", {"instances": [text, {"text": text}]}),
            (f"/v2/models/{model}/infer", {"inputs": [tensor]}),
        )
    )


async def good(address: str, rate: float, seconds: float, model: str, seen: Seen) -> None:
    """Well-formed requests at their own pace; each must have an end that was promised."""
    connections = Connections(address)

    async def one(text: str) -> None:
        path, body = in_some_shape(text, model)
        try:
            reply = await asyncio.wait_for(connections.post(path, json.dumps(body).encode()), 60)
        except (OSError, TimeoutError) as fault:
            seen.statuses[f"{path} none"] += 1
            seen.wrong.append(f"{path}: no answer ({type(fault).__name__})")
            return
        seen.statuses[f"{path} {reply.status}"] += 1
        if reply.status not in (200, 429, 503):
            seen.wrong.append(f"{path}: {reply.status} {reply.body[:200]!r}")
        elif reply.status == 200 and path == "/v1/classify":
            await say(connections, reply, seen)

    await at_their_pace(one, rate, seconds, seed=1)
    connections.close()


async def at_their_pace(
    one: Callable[[str], Awaitable[None]], rate: float, seconds: float, *, seed: int
) -> None:
    """Has each text asked when it arrives, whatever became of those before."""
    loop = asyncio.get_running_loop()
    started, running = loop.time(), set[asyncio.Future[None]]()
    for ask in draw_traffic(rate=rate, seconds=seconds, seed=seed, tasks=["classify"]):
        await asyncio.sleep(max(0.0, started + ask.at_s - loop.time()))
        task = asyncio.ensure_future(one(json.loads(ask.body)["input"]))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def say(connections: Connections, reply: Reply, seen: Seen) -> None:
    """Notes which version answered, and for some answers says what was right."""
    answer = json.loads(reply.body)
    seen.versions[answer["model"]["version"]] += 1
    if random.randrange(FEEDBACK_EVERY):
        return
    item = answer["items"][0]
    said = {"prediction": item["id"], "label": item["labels"][0]["label"], "source": "outcome"}
    told = await connections.post("/v1/feedback", json.dumps({"feedback": [said]}).encode())
    seen.feedback[str(told.status)] += 1
    if told.status not in (200, 503):
        seen.wrong.append(f"feedback: {told.status} {told.body[:200]!r}")


async def calls(address: str, rate: float, seconds: float, model: str, seen: Seen) -> None:
    """The same over gRPC; one in ten gives up at some moment, one in ten cannot be answered."""
    tensor = inference.ModelInferRequest.InferInputTensor
    async with grpc.aio.insecure_channel(address) as channel:

        def method(path: str) -> Any:
            return channel.unary_unary(path, request_serializer=lambda m: m.SerializeToString())

        classify = method("/xlmr.v1.Xlmr/Classify")
        infer = method("/inference.GRPCInferenceService/ModelInfer")

        async def one(text: str) -> None:
            kind = random.randrange(10)
            wanted = grpc.StatusCode.OK
            if kind < 5:
                texts = [native.Text(text=text)] * random.randint(1, 8)
                call = classify(native.ClassifyRequest(texts=texts), timeout=60)
            else:
                contents = {"bytes_contents": [text.encode()]}
                given = tensor(name="text", datatype="BYTES", shape=[1], contents=contents)
                if kind == 5:
                    given.shape[0], wanted = 2, grpc.StatusCode.INVALID_ARGUMENT
                call = infer(
                    inference.ModelInferRequest(model_name=model, inputs=[given]), timeout=60
                )
            if kind == 6:
                await asyncio.sleep(random.random() * 0.004)
                call.cancel()
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await call
            status = await call.code()
            seen.calls[status.name] += 1
            given_up = kind == 6 and status is grpc.StatusCode.CANCELLED
            if not given_up and status not in (wanted, *_REFUSALS):
                seen.wrong.append(f"gRPC: {status.name}, not {wanted.name}: {await call.details()}")

        await at_their_pace(one, rate, seconds, seed=2)


async def malformed(address: str, seconds: float, seen: Seen) -> None:
    """Requests that must be refused as what they are."""
    connections = Connections(address)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        path, body, wanted = random.choice(MALFORMED)
        try:
            reply = await connections.post(path, body)
            if reply.status not in (wanted, 503):
                seen.wrong.append(f"{path} {body[:40]!r}: {reply.status}, not {wanted}")
            seen.malformed[str(reply.status)] += 1
        except OSError as fault:
            # A body that is refused before it is read may end the connection.
            seen.malformed[type(fault).__name__] += 1
            if wanted != 413:
                seen.wrong.append(f"{path} {body[:40]!r}: {type(fault).__name__}")
        await asyncio.sleep(random.expovariate(4))
    connections.close()


async def rude(address: str, seconds: float, seen: Seen) -> None:
    """Clients that hang up in every place, or send one byte a second."""
    parts = urlsplit(address)
    until = time.monotonic() + seconds
    body = json.dumps({"input": ["where is my parcel " * 40] * 8}).encode()
    head = (
        b"POST /v1/classify HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    )
    whole = head + body
    while time.monotonic() < until:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        kind = random.randrange(5)
        with contextlib.suppress(OSError):
            if kind == 0:  # in the head
                writer.write(whole[: random.randrange(1, len(head))])
            elif kind == 1:  # in the body
                writer.write(whole[: len(head) + random.randrange(len(body))])
            elif kind == 2:  # while it is computed
                writer.write(whole)
                await asyncio.sleep(random.random() * 0.05)
            elif kind == 3:  # no HTTP at all
                writer.write(random.randbytes(200))
            else:  # slowly
                for i in range(5):
                    writer.write(whole[i : i + 1])
                    await asyncio.sleep(0.2)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        seen.rude += 1
        await asyncio.sleep(random.expovariate(5))
