"""Traps other servers fell into, around a cache: an answer of another version (6), an answer where
there is none (9), answers that depend on their neighbours (11); and that it tells nobody's words.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import json
import shutil
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.services import RedisServer, redis_server
from tests.serving.conftest import House, running
from tests.tiny import LABELS, tiny_model, write_linear_head

import xlmr
from xlmr.model.prepared import ClassifyOptions, EmbedOptions, ZeroShotOptions
from xlmr.serving.cache import AnswerCache, keys_of
from xlmr.serving.cache_store import Store
from xlmr.serving.dataplane import Question
from xlmr.serving.versions import Order
from xlmr.telemetry.metrics import Metrics

MARK = "Marzipanschwein"
LONGER = "where is my parcel anna lives in paris " * 3
TEXTS = ["hello world", "где посылка", LONGER, "你好 世界", "a"]
LABELS_ASKED = ["refund", "where is my money"]
PATIENCE_S = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny model for each task, and a router in two versions."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("classify", "tag", "answer", "rerank", "zero_shot", "fill", "embed"):
        tiny_model(root, kind)
    for version, seed in (("one", 1), ("two", 2)):
        shutil.copytree(root / "embed", root / version)
        write_linear_head(root / version, ("refund", "delivery", "other"), seed=seed)
    return root


@pytest.fixture
def house_of(models: Path, tmp_path: Path) -> Callable[..., Any]:
    return lambda *places, **knobs: running(
        [place.format(models) for place in places], cache_dir=tmp_path, **knobs
    )


ALL = ("classify", "tag", "answer", "rerank", "zero_shot", "fill", "embed")
PLACES = [f"{name}={{0}}/{name}" for name in ALL]


def bodies(texts: list[str]) -> dict[str, dict[str, Any]]:
    """A request of each task about some texts."""
    pairs = [{"question": f"who lives {len(text)}", "context": text} for text in texts]
    return {
        "/v1/classify": {"model": "classify", "input": texts},
        "/v1/tag": {"model": "tag", "input": texts},
        "/v1/answer": {"model": "answer", "input": pairs},
        "/v1/zero-shot": {"model": "zero_shot", "input": texts, "labels": LABELS_ASKED},
        "/v1/fill": {"model": "fill", "input": [f"{text} <mask>" for text in texts]},
        "/v1/embeddings": {"model": "embed", "input": texts},
        "/v1/rerank": {"model": "rerank", "query": "where is anna", "documents": texts},
        "/v1/similarity": {"model": "embed", "source": "hello", "sentences": texts},
    }


def answers(house: House, path: str, body: dict[str, Any]) -> list[Any]:
    """What was said of each text, in the order of the texts, without what names the request."""
    reply = house.client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    said = reply.json()
    items = said.get("items") or said.get("data") or said["results"]
    if path == "/v1/rerank":
        items = sorted(items, key=lambda item: item["index"])
    return [
        {key: value for key, value in item.items() if key not in ("id", "index")} for item in items
    ]


def test_trap_6_a_promotion_never_serves_an_answer_of_the_version_before(house_of, models):
    with house_of("router@one={0}/one", cache_bytes=10**6) as house:
        first = answers(house, "/v1/classify", {"input": TEXTS})
        assert answers(house, "/v1/classify", {"input": TEXTS}) == first
        assert house.metrics.value("xlmr_cache_hits_total") == len(TEXTS)
        house.plane.pool.load(Order(directory=models / "two", name="router", version="two"))
        house.plane.pool.point("router", "live", "two")
        second = answers(house, "/v1/classify", {"input": TEXTS})
        assert house.metrics.value("xlmr_cache_hits_total") == len(TEXTS)
        assert all(one != two for one, two in zip(first, second, strict=True))
        house.plane.pool.point("router", "live", "one")
        assert answers(house, "/v1/classify", {"input": TEXTS}) == first
        for version, said in (("one", first), ("two", second)):
            asked = {"input": TEXTS, "model": f"router@{version}"}
            assert answers(house, "/v1/classify", asked) == said
        assert house.metrics.value("xlmr_cache_hits_total") == 4 * len(TEXTS)
    with house_of("router@two={0}/two") as alone:
        assert answers(alone, "/v1/classify", {"input": TEXTS}) == second


def test_trap_6_a_promotion_amid_identical_requests_gives_each_the_version_it_met(house_of, models):
    with house_of("router@one={0}/one", cache_bytes=10**6) as house:
        house.plane.pool.load(Order(directory=models / "two", name="router", version="two"))
        house.plane.pool.point("router", "live", "one")
        said: list[tuple[str, Any]] = []

        def ask(number: int) -> None:
            reply = house.client.post("/v1/classify", json={"input": f"hello {number // 40}"})
            said.append((reply.json()["model"]["version"], number // 40))
            said[-1] += (reply.json()["items"][0]["labels"],)

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(ask, number) for number in range(400)]
            for turn in range(20):
                house.plane.pool.point("router", "live", ("two", "one")[turn % 2])
                time.sleep(0.01)
            for one in asking:
                one.result(PATIENCE_S)
        # What each version says of a text is one thing, and never what the other one says.
        by_version = {
            version: {
                number: {json.dumps(labels) for v, n, labels in said if (v, n) == (version, number)}
                for number in range(10)
            }
            for version in ("one", "two")
        }
        for number in range(10):
            one, two = by_version["one"][number], by_version["two"][number]
            assert len(one) <= 1
            assert len(two) <= 1
            assert not one & two


def served(**facts: str) -> Any:
    """As much of a model as keys are made of."""
    given = {"digest": "d", "fingerprint": "f", "runtime": "native int8 avx2"} | facts
    tokenizer = SimpleNamespace(fingerprint=given["fingerprint"])
    return SimpleNamespace(
        ref=SimpleNamespace(digest=given["digest"], name=given.get("name", "n")),
        predictor=SimpleNamespace(
            bundle=SimpleNamespace(tokenizer=tokenizer),
            runtime=SimpleNamespace(name=given["runtime"]),
        ),
    )


def test_trap_6_everything_an_answer_depends_on_is_in_its_key(monkeypatch):
    def space(model: Any = None, task: str = "classify", options: Any = None) -> bytes:
        asked = Question(id="r", task=task, items=["a"], options=options or ClassifyOptions())
        found = cache.asked(served() if model is None else model, asked, [0])
        assert found is not None
        return found.space

    cache = AnswerCache(Store(1000), metrics=Metrics(), secret=b"s")
    spaces = [
        space(),
        space(served(digest="e")),
        space(served(fingerprint="g")),
        space(served(runtime="native fp32 avx2")),
        space(task="other"),
        space(options=ClassifyOptions(top=1)),
        space(options=ClassifyOptions(long="window")),
        space(options=ClassifyOptions(raw_scores=True)),
        space(options=EmbedOptions()),
        space(options=ZeroShotOptions(labels=["a", "b"])),
        space(options=ZeroShotOptions(labels=["b", "a"])),
        space(options=ZeroShotOptions(labels=["ab"])),
    ]
    assert len(set(spaces)) == len(spaces)
    # The name a model is served by is nothing its answers depend on.
    assert space(served(name="m")) == spaces[0]
    monkeypatch.setattr(xlmr, "__version__", "0.0.0")
    assert space() not in spaces
    cache = AnswerCache(Store(1000), metrics=Metrics(), secret=b"another")
    assert space() not in spaces


def test_trap_9_where_the_model_failed_nobody_is_told_that_it_answered(house_of):
    with house_of("embed={0}/embed", cache_bytes=10**6) as house:
        assert answers(house, "/v1/embeddings", {"input": ["hello"]})
        house.gated.fault = RuntimeError("broken")
        for texts in (["world"], ["hello", "world"]):
            reply = house.client.post("/v1/embeddings", json={"input": texts})
            assert reply.status_code == 500
        # What is known already needs no model.
        assert answers(house, "/v1/embeddings", {"input": ["hello"]})
        house.gated.fault = None
        assert len(answers(house, "/v1/embeddings", {"input": ["hello", "world"]})) == 2


def test_trap_9_all_who_wait_for_a_computation_that_fails_are_told_so(house_of):
    with house_of("embed={0}/embed", cache_bytes=10**6) as house:
        house.gated.gate.clear()
        house.gated.fault = RuntimeError("broken")
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            asking = [
                threads.submit(house.client.post, "/v1/embeddings", json={"input": "hello"})
                for _ in range(6)
            ]
            assert house.gated.entered.acquire(timeout=PATIENCE_S)
            house.gated.gate.set()
            statuses = [one.result(PATIENCE_S).status_code for one in asking]
        assert statuses == [500] * 6
        house.gated.fault = None
        assert answers(house, "/v1/embeddings", {"input": "hello"})


def test_trap_11_an_answer_is_the_same_alone_among_others_and_from_the_cache(house_of):
    """To the byte, of every task, in the numbers that are usually served."""
    numbers = {"runtime": "native", "precision": "int8"}
    with house_of(*PLACES, cache_bytes=0, **numbers) as off:
        together = {path: answers(off, path, body) for path, body in bodies(TEXTS).items()}
        for place, text in enumerate(TEXTS):
            for path, body in bodies([text]).items():
                assert answers(off, path, body) == together[path][place : place + 1], path
        assert off.metrics.value("xlmr_cache_misses_total") == 0
    with house_of(*PLACES, cache_bytes=10**6, **numbers) as on:
        # Some are known when all are asked for, and then all are.
        for path, body in bodies([TEXTS[4], TEXTS[1]]).items():
            assert answers(on, path, body) == [together[path][place] for place in (4, 1)], path
        for path, body in bodies(TEXTS).items():
            assert answers(on, path, body) == together[path], path
        computed = on.metrics.value("xlmr_cache_misses_total")
        assert on.metrics.value("xlmr_cache_hits_total") > 0
        for path, body in bodies(TEXTS[::-1]).items():
            assert answers(on, path, body) == together[path][::-1], path
        assert on.metrics.value("xlmr_cache_misses_total") == computed


def test_answers_that_stand_in_an_order_of_their_request_keep_it(house_of):
    with house_of("rerank={0}/rerank", runtime="native", cache_bytes=10**6) as on:
        for documents in (TEXTS[:3], TEXTS[::-1], [*TEXTS, *TEXTS], TEXTS):
            body = {"query": "where is anna", "documents": documents}
            results = on.client.post("/v1/rerank", json=body).json()["results"]
            scores = [item["relevance_score"] for item in results]
            assert scores == sorted(scores, reverse=True)
            assert sorted(item["index"] for item in results) == list(range(len(documents)))
            by_text: dict[str, set[float]] = {}
            for item in results:
                by_text.setdefault(documents[item["index"]], set()).add(item["relevance_score"])
            assert all(len(found) == 1 for found in by_text.values())
        assert on.metrics.value("xlmr_cache_misses_total") == len(TEXTS)


@contextlib.contextmanager
def asked_everything(house_of: Callable[..., Any], url: str, secret: str) -> Iterator[House]:
    """A server that was asked marked texts in every way there is."""
    knobs = {"cache_bytes": 10**7, "redis_url": url, "cache_secret": secret}
    knobs["redis_timeout_ms"] = 1000 * PATIENCE_S
    with house_of(*PLACES, **knobs) as house:
        for text in (MARK, f"anna lives in {MARK} paris", f"{MARK} hello " * 5):
            for path, body in bodies([text, "hello"]).items():
                answers(house, path, body)
        answers(house, "/v1/zero-shot", {"model": "zero_shot", "input": MARK, "labels": [MARK]})
        said = {"model": "classify", "input": [MARK], "languages": [MARK.lower()]}
        answers(house, "/v1/classify", said)
        answers(house, "/v1/tag", {"model": "tag", "input": [[MARK, "lives"], ["anna", MARK]]})
        yield house


def kept_by(redis: RedisServer) -> dict[bytes, bytes]:
    """All it holds."""
    names = [part for part in redis.ask("KEYS", "*").split(b"\r\n$") if b"xlmr:" in part]
    names = [part.split(b"\r\n", 1)[1].removesuffix(b"\r\n") for part in names]
    kept = {}
    for name in names:
        size, _, rest = redis.ask("GET", name).partition(b"\r\n")
        kept[name] = rest[: int(size[1:])]
    return kept


def in_any_guise(text: str) -> list[bytes]:
    """A text as it is often written where it is thought to be hidden."""
    guises = []
    for form in (text, text.lower(), text.upper(), text[::-1], text[1:-1]):
        plain = form.encode()
        guises += [plain, form.encode("utf-16-le"), form.encode("utf-16-be")]
        guises += [plain.hex().encode(), urllib.parse.quote(form).encode()]
        # Wherever it stands in what was encoded, some of these characters are the same.
        guises += [base64.b64encode(b"x" * offset + plain)[4:-4] for offset in range(3)]
    return guises


def strings_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, list):
        return set().union(*map(strings_in, value))
    return set()


@pytest.mark.parametrize("secret", ["", "a secret"])
def test_nothing_that_was_written_can_be_read_in_redis(house_of, tmp_path, secret):
    with redis_server(tmp_path) as redis, asked_everything(house_of, redis.url, secret) as house:
        store = house.plane._cache._store
        assert len(store) > 30
        # What was asked before Redis was found stands in memory alone.
        house.until(lambda: len(kept_by(redis)) > len(store) - 10)
        kept = kept_by(redis)
        vocabulary = house.plane.pool.models["fill"].predictor.bundle.tokenizer
        pieces = {vocabulary.piece(i) for i in range(vocabulary.vocabulary_size)}
        pieces |= {vocabulary.decode([i]) for i in range(vocabulary.vocabulary_size)}
        labels = {label for names in LABELS.values() for label in names}
        allowed = pieces | labels | {"PER", "LOC", "="}
        marked = in_any_guise(MARK)
        for name, value in [*kept.items(), *store._values.items()]:
            assert not any(guise in name + value for guise in marked)
            assert name.startswith(b"xlmr:") or len(name) == 16
            # What is compressed or packed tighter than text would show as strings or long bytes.
            content = msgspec.msgpack.decode(value[1:])
            words = strings_in(content)
            assert all(len(word) <= 3 for word in words - allowed), words - allowed
            with pytest.raises(zlib.error):
                zlib.decompress(value)
        log = (tmp_path / "redis.log").read_bytes()
        assert not any(guise in log for guise in marked)


def test_with_a_secret_nobody_can_find_out_whether_a_text_was_asked():
    def key(secret: bytes | None) -> bytes:
        cache = AnswerCache(Store(1000), metrics=Metrics(), secret=secret)
        asked = Question(id="r", task="classify", items=["a"], options=ClassifyOptions())
        found = cache.asked(served(), asked, [0])
        assert found is not None
        return keys_of(found)[0][1]

    assert key(b"one") == key(b"one") != key(b"two")
    # A cache that nobody shares makes up its own.
    assert key(None) != key(None)
