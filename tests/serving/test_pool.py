from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.tiny import tiny_model

from xlmr.errors import (
    DigestMismatchError,
    EngineError,
    ForbiddenError,
    InputError,
    ModelConflictError,
    ModelError,
    ModelNotFoundError,
    ProofError,
    SettingsError,
    TaskError,
    UnavailableError,
)
from xlmr.serving.engines import warm_runtime
from xlmr.serving.pool import Pool, open_pool
from xlmr.serving.versions import Order, read_places
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics

SECONDS = 20


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def settings(tmp_path):
    return Settings(runtime="reference", cache_dir=tmp_path)


@pytest.fixture
def pool_of(settings):
    pools = []

    def make(*places: str, **options) -> Pool:
        pools.append(open_pool(places, settings, Metrics(), **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def order(directory: Path, name: str = "router", version: str = "", **fields) -> Order:
    return Order(directory=directory, name=name, version=version, **fields)


def shown(pool: Pool) -> list[tuple[str, str, str]]:
    return [(state.name, state.version, state.state) for state in pool.states()]


def test_models_are_named_by_directory_or_by_wish(models, pool_of):
    pool = pool_of(f"{models}/router/", f"topics={models}/classify")
    assert list(pool.models) == ["router", "topics"]
    assert pool.models["topics"].ref.name == "topics"
    digest = pool.models["topics"].ref.digest
    assert pool.models["topics"].ref.version == digest[:12]


def test_one_encoder_is_loaded_once(models, pool_of):
    pool = pool_of(f"{models}/router", f"{models}/sentences", f"{models}/classify")
    router, sentences, other = pool.models.values()
    assert router.batcher is sentences.batcher
    assert router.predictor.runtime is sentences.predictor.runtime
    assert other.batcher is not router.batcher
    assert router.ref.digest != sentences.ref.digest
    assert len(pool.engines) == 2


def test_routes_lead_to_the_named_model_or_to_the_only_one(models, pool_of):
    pool = pool_of(f"{models}/router", f"{models}/sentences")
    assert pool.route(None, "classify").ref.name == "router"
    assert pool.route("sentences", "embed").ref.name == "sentences"
    with pytest.raises(InputError, match="router, sentences") as several:
        pool.route(None, "embed")
    assert several.value.path == "$.model"
    with pytest.raises(ModelNotFoundError, match="router, sentences"):
        pool.route("none", "embed")
    with pytest.raises(TaskError, match="cannot classify"):
        pool.route("sentences", "classify")
    with pytest.raises(TaskError, match="no loaded model can tag"):
        pool.route(None, "tag")


def test_two_models_of_one_name_are_refused(models, pool_of):
    with pytest.raises(SettingsError, match="same name"):
        pool_of(f"a={models}/router", f"a={models}/sentences")


def test_no_such_directory(models, pool_of):
    with pytest.raises(ModelNotFoundError):
        pool_of(f"{models}/nothing")


def test_a_batch_always_holds_the_longest_text(models, tmp_path):
    settings = Settings(runtime="reference", cache_dir=tmp_path, batch_tokens=8)
    pool = open_pool([f"{models}/sentences"], settings, Metrics())
    served = pool.models["sentences"]
    prepared = served.predictor.prepare("embed", ["hello " * 600])
    future = served.batcher.submit(prepared.encodings, rows=prepared.rows)
    assert len(future.result(10)[0]) == 512
    pool.close()


def test_a_name_leads_to_the_newest_version_until_live_is_set(models, pool_of):
    pool = pool_of(f"router@1={models}/router", f"router@2={models}/classify")
    assert {name: pool.route(name, None).ref.version for name in ("router", "router@live")} == {
        "router": "2",
        "router@live": "2",
    }
    assert pool.route("router@1", None).ref.version == "1"
    assert [state.aliases for state in pool.states()] == [(), ("live",)]
    pool.point("router", "live", "1")
    pool.point("router", "next", "2")
    assert pool.route("router", None).ref.version == "1"
    assert pool.route("router@next", None).ref.version == "2"
    assert [state.aliases for state in pool.states()] == [("live",), ("next",)]
    assert pool.drop_alias("router", "live").version == "1"
    assert pool.route("router@live", None).ref.version == "2"
    with pytest.raises(ModelNotFoundError, match="versions of router: 1, 2"):
        pool.route("router@3", None)


def test_aliases_and_versions_never_hide_each_other(models, pool_of):
    pool = pool_of(f"router@1={models}/router")
    with pytest.raises(ModelConflictError, match="1 is a version"):
        pool.point("router", "1", "1")
    with pytest.raises(InputError, match="expected letters") as wrong:
        pool.point("router", "a b", "1")
    assert wrong.value.path == "$.alias"
    with pytest.raises(ModelNotFoundError, match="no version 2"):
        pool.point("router", "next", "2")
    with pytest.raises(ModelNotFoundError):
        pool.drop_alias("router", "next")
    pool.point("router", "next", "1")
    with pytest.raises(ModelConflictError, match="next is an alias"):
        pool.load(order(models / "classify", version="next"))
    with pytest.raises(ModelConflictError, match="x is a version"):
        pool.load(order(models / "classify", version="x", aliases=("x",)))
    for place in ("a@live=x", "a@=x", "@1=x", "a@b c=x"):
        with pytest.raises(SettingsError):
            read_places([place])


def test_loading_the_same_twice_changes_nothing_but_aliases(models, pool_of):
    pool = pool_of(f"router@1={models}/router")
    first = pool.models["router"]
    again = pool.load(order(models / "router", version="1", aliases=("live",)))
    assert again is first
    assert shown(pool) == [("router", "1", "ready")]
    assert pool.route("router@live", None) is first
    with pytest.raises(ModelConflictError, match="other content"):
        pool.load(order(models / "classify", version="1"))
    assert pool.models["router"] is first


def test_the_same_loaded_by_several_at_once_is_loaded_once(models, pool_of):
    opened = []

    def counted(bundle, settings):
        opened.append(bundle)
        return warm_runtime(bundle, settings)

    pool = pool_of(runtime_of=counted)
    with ThreadPoolExecutor(4) as threads:
        loads = [threads.submit(pool.load, order(models / "router", version="1")) for _ in range(4)]
        assert len({id(load.result(SECONDS)) for load in loads}) == 1
    assert len(opened) == 1
    assert shown(pool) == [("router", "1", "ready")]


def test_a_failed_load_leaves_everything_as_it_was(models, pool_of, tmp_path):
    pool = pool_of(f"router@1={models}/router")
    engines, routed = pool.engines, pool.route("router", None)
    broken = tmp_path / "broken"
    shutil.copytree(models / "classify", broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    for _ in range(2):
        with pytest.raises(ModelError):
            pool.load(order(broken, version="2", aliases=("live",)))
    assert pool.engines == engines
    assert pool.route("router", None) is routed
    assert shown(pool) == [("router", "1", "ready"), ("router", "2", "failed")]
    assert "model.safetensors" in pool.state_of("router@2").reason
    assert pool.unload("router", "2").state == "failed"
    assert shown(pool) == [("router", "1", "ready")]
    with pytest.raises(ModelNotFoundError):
        pool.state_of("router@2")


def test_an_engine_that_was_opened_for_a_model_that_fails_is_closed(models, pool_of, tmp_path):
    closed = []

    def watched(bundle, settings):
        runtime = warm_runtime(bundle, settings)
        close = runtime.close
        runtime.close = lambda: (closed.append(bundle), close())
        return runtime

    shutil.copytree(models / "classify", tmp_path / "bold")
    promise = {"name": "x", "text": "hello", "answer": {"refund": 2.0}, "tolerance": {"fp32": 0.1}}
    golden = {"format": 1, "task": "classify", "promises": [promise]}
    (tmp_path / "bold" / "golden.json").write_text(json.dumps(golden))
    pool = pool_of(runtime_of=watched)
    with pytest.raises(ProofError, match="1 of 1 answers moved: x by"):
        pool.load(order(tmp_path / "bold"))
    assert pool.engines == ()
    eventually(lambda: len(closed) == 1)


def test_a_runtime_that_fails_at_once_is_closed(models, pool_of, gated_class):
    gates = []

    def broken(bundle, settings):
        gates.append(gated_class(warm_runtime(bundle, settings)))
        gates[-1].fault = EngineError("no memory")
        return gates[-1]

    pool = pool_of(runtime_of=broken)
    with pytest.raises(ProofError, match="no memory"):
        pool.load(order(models / "router"))
    assert pool.engines == ()
    assert gates[0].inner._closed.is_set()


def test_only_the_last_failures_are_shown(models, pool_of):
    pool = pool_of()
    for number in range(20):
        with pytest.raises(ModelError):
            pool.load(order(models / "nothing", version=str(number)))
    assert [state.version for state in pool.states()] == [str(n) for n in range(4, 20)]


def test_a_promised_digest_is_held(models, pool_of):
    pool = pool_of()
    with pytest.raises(DigestMismatchError, match="promised"):
        pool.load(order(models / "router", digest="0" * 64))
    assert not pool.models
    digest = pool.load(order(models / "router")).ref.digest
    pool.load(order(models / "router", digest=digest))


def test_an_unloaded_version_stays_until_its_last_request_is_over(models, pool_of):
    pool = pool_of(f"router@1={models}/router", f"router@2={models}/classify")
    taken = pool.take("router@1", "classify")
    taken_again = pool.take("router@1", None)
    assert taken_again is taken
    assert pool.unload("router", "1").state == "draining"
    with pytest.raises(ModelNotFoundError):
        pool.take("router@1", "classify")
    assert shown(pool) == [("router", "1", "draining"), ("router", "2", "ready")]
    assert pool.states()[0].requests == 2
    pool.give_back(taken)
    prepared = taken.predictor.prepare("classify", ["hello"])
    assert taken.batcher.submit(prepared.encodings, rows=prepared.rows).result(SECONDS)
    pool.give_back(taken)
    assert shown(pool) == [("router", "2", "ready")]
    assert len(pool.engines) == 1
    eventually(lambda: not taken.batcher.alive)


def test_an_engine_lives_as_long_as_one_of_its_models(models, pool_of):
    pool = pool_of(f"{models}/router", f"{models}/sentences")
    engine = pool.engines[0]
    pool.unload("router", pool.models["router"].ref.version)
    assert pool.engines == (engine,)
    assert engine.batcher.alive
    pool.unload("sentences", pool.models["sentences"].ref.version)
    assert pool.engines == ()
    eventually(lambda: not engine.batcher.alive)


def test_a_version_that_an_alias_points_to_is_not_unloaded(models, pool_of):
    pool = pool_of(f"router@1={models}/router")
    pool.point("router", "live", "1")
    with pytest.raises(ModelConflictError, match="the alias live points to router@1"):
        pool.unload("router", "1")
    assert pool.route("router", None)
    pool.drop_alias("router", "live")
    pool.unload("router", "1")
    assert not pool.models
    with pytest.raises(ModelNotFoundError):
        pool.unload("router", "1")


def test_a_model_that_is_being_loaded_can_be_waited_for(models, pool_of):
    held, go = threading.Event(), threading.Event()

    def slow(bundle, settings):
        held.set()
        assert go.wait(SECONDS)
        return warm_runtime(bundle, settings)

    pool = pool_of(runtime_of=slow)
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(pool.load, order(models / "router", version="1"))
        assert held.wait(SECONDS)
        assert pool.loading
        assert (pool.state_of("router").state, pool.state_of("router").stage) == (
            "loading",
            "preparing",
        )
        for name in ("router", "router@1", None):
            with pytest.raises(UnavailableError, match="being loaded"):
                pool.take(name, "classify")
        with pytest.raises(ModelNotFoundError):
            pool.take("other", "classify")
        with pytest.raises(ModelConflictError, match="being loaded"):
            pool.unload("router", "1")
        go.set()
        assert loading.result(SECONDS).ref.version == "1"
    assert not pool.loading
    pool.give_back(pool.take("router", "classify"))


def test_a_pool_that_is_closed_while_it_loads_keeps_nothing(models, settings):
    held, go = threading.Event(), threading.Event()

    def slow(bundle, settings):
        held.set()
        assert go.wait(SECONDS)
        return warm_runtime(bundle, settings)

    pool = Pool(settings, Metrics(), runtime_of=slow)
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(pool.load, order(models / "router"))
        assert held.wait(SECONDS)
        pool.close()
        go.set()
        with pytest.raises(UnavailableError, match="going down"):
            loading.result(SECONDS)
    assert pool.engines == ()
    with pytest.raises(UnavailableError):
        pool.load(order(models / "router"))


def test_an_engine_that_hangs_does_not_keep_a_pool_from_ending(models, settings, gated_class):
    gates = []

    def held(bundle, settings):
        gates.append(gated_class(warm_runtime(bundle, settings)))
        return gates[-1]

    pool = open_pool([f"{models}/router"], settings, Metrics(), runtime_of=held)
    served = pool.models["router"]
    gates[0].gate.clear()
    prepared = served.predictor.prepare("classify", ["hello"])
    asked = served.batcher.submit(prepared.encodings, rows=prepared.rows)
    assert not pool.close(within_s=0.05)
    gates[0].gate.set()
    assert asked.result(SECONDS)
    assert pool.close()


def test_of_several_the_rest_is_not_tried_after_a_failure(models, settings):
    pool = Pool(settings, Metrics())
    orders = read_places([f"{models}/router", f"{models}/nothing", f"{models}/classify"])
    with pytest.raises(ModelNotFoundError):
        pool.load_all(orders)
    assert [(s.name, s.state) for s in pool.states()] == [
        ("router", "ready"),
        ("nothing", "failed"),
    ]
    pool.close()


def test_models_that_change_under_load_are_never_missing(models, pool_of):
    """Every thread finds a version at all times, and never one whose engine is closed."""
    pool = pool_of(f"router@1={models}/router")
    stop = threading.Event()
    seen: set[str] = set()

    def ask() -> int:
        asked = 0
        while not stop.is_set():
            served = pool.take("router", "classify")
            prepared = served.predictor.prepare("classify", ["hello"])
            assert served.batcher.submit(prepared.encodings, rows=prepared.rows).result(SECONDS)
            seen.add(served.ref.version)
            pool.give_back(served)
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        for number in range(2, 8):
            directory = models / ("classify" if number % 2 else "router")
            pool.load(order(directory, version=str(number)))
            pool.unload("router", str(number - 1))
            eventually(lambda number=number: str(number) in seen)
        stop.set()
        assert all(future.result(SECONDS) > 0 for future in asking)
    assert shown(pool) == [("router", "7", "ready")]
    assert len(pool.engines) == 1


@pytest.fixture
def rooted(tmp_path, models):
    root = tmp_path / "root"
    shutil.copytree(models / "router", root / "teams" / "router")
    (root / "link").symlink_to(models / "router")
    settings = Settings(runtime="reference", cache_dir=tmp_path, models_dir=str(root))
    pool = Pool(settings, Metrics())
    yield pool
    pool.close()


def test_orders_from_outside_open_what_lies_below_the_models_directory(rooted):
    state, loading = rooted.begin(order(Path("teams/router"), version="1"))
    assert (state.name, state.version, state.state) == ("router", "1", "loading")
    assert loading.result(SECONDS).ref.version == "1"


@pytest.mark.parametrize(
    "directory", ["..", ".", "", "../models", "/etc", "link", "teams/none", "a\0b", "x" * 5000]
)
def test_orders_from_outside_open_nothing_else(rooted, directory):
    with pytest.raises(ModelNotFoundError) as refused:
        rooted.begin(order(Path(directory)))
    assert refused.value.message == "no such directory below the models directory"
    assert rooted.states() == []


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"name": "a@b"}, "$.name"),
        ({"name": ""}, "$.name"),
        ({"version": "live"}, "$.version"),
        ({"version": "a/b"}, "$.version"),
        ({"aliases": ("ok", "not ok")}, "$.aliases[1]"),
        ({"digest": "12"}, "$.digest"),
    ],
)
def test_orders_from_outside_are_checked(rooted, changed, path):
    with pytest.raises(InputError) as refused:
        rooted.begin(order(Path("teams/router"), **changed))
    assert refused.value.path == path


def test_without_a_models_directory_nothing_is_loaded_from_outside(pool_of):
    with pytest.raises(ForbiddenError, match="loads no models"):
        pool_of().begin(order(Path("router")))


def test_a_file_that_changed_in_secret_is_found(pool_of, tmp_path):
    """The same size and time of writing, other content: as a disk that loses bits would have it."""
    path = tiny_model(tmp_path, "classify")
    pool = pool_of(f"a@1={path}")
    before = (path / "config.json").stat()
    text = (path / "config.json").read_text()
    changed = text.replace('"refund"', '"xxxxxx"').replace('"cancel"', '"refund"')
    changed = changed.replace('"xxxxxx"', '"cancel"')
    assert len(changed) == len(text)
    assert changed != text
    (path / "config.json").write_text(changed)
    os.utime(path / "config.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DigestMismatchError, match="changed while their size and time did not"):
        pool.load(order(path, name="a", version="2"))
