"""Models come, change and go over HTTP while the server serves."""

from __future__ import annotations

import collections
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from xlmr.serving.doorkeeper import Doorkeeper
from xlmr.types import Caller

SECONDS = 20


@pytest.fixture
def house(house_of, models):
    with house_of("sentences", models_dir=str(models)) as house:
        yield house


def load(house, **body) -> httpx.Response:
    return house.client.post("/v1/models", json={"name": "router", "directory": "router"} | body)


def states(house) -> dict[str, str]:
    data = house.client.get("/v1/models").json()["data"]
    return {f"{card['name']}@{card['version']}": card["state"] for card in data}


def test_a_model_is_loaded_asked_renamed_and_unloaded(house):
    loaded = load(house, version="1", aliases=["first"])
    assert loaded.status_code == 200
    card = loaded.json()
    assert (card["name"], card["version"], card["state"]) == ("router", "1", "ready")
    assert card["aliases"] == ["first", "live"]
    for name in ("router", "router@1", "router@first", "router@live"):
        answered = house.classify(input="hello", model=name)
        assert answered.status_code == 200
        assert answered.json()["model"]["version"] == "1"
    assert load(house, version="1").json() == card
    pointed = house.client.put("/v1/models/router/aliases/best", json={"version": "1"})
    assert pointed.json()["aliases"] == ["best", "first", "live"]
    assert house.client.delete("/v1/models/router@1").status_code == 409
    for alias in ("best", "first"):
        assert house.client.delete(f"/v1/models/router/aliases/{alias}").status_code == 200
    assert house.client.delete("/v1/models/router@1").status_code == 200
    assert house.classify(input="hello", model="router").status_code == 404
    assert house.client.delete("/v1/models/router@1").status_code == 404
    assert list(states(house).values()) == ["ready"]


def test_a_load_that_is_not_waited_for_is_seen_among_the_models(house):
    begun = load(house, version="1", wait=False)
    assert begun.status_code == 202
    assert begun.json()["state"] == "loading"
    house.until(lambda: states(house).get("router@1") == "ready")


def test_a_load_that_fails_says_why_and_changes_nothing(house, models):
    before = states(house)
    (models / "empty").mkdir(exist_ok=True)
    refused = load(house, directory="empty", version="1")
    assert refused.status_code == 404
    assert "config.json" in refused.json()["detail"]
    wrong = load(house, version="1", digest="0" * 64)
    assert wrong.status_code == 422
    assert wrong.json()["code"] == "digest_mismatch"
    assert states(house) == before | {"router@1": "failed"}
    card = house.client.get("/v1/models/router@1").json()
    assert "promised" in card["reason"]
    assert house.classify(input="hello", model="router").status_code == 404


def test_nothing_outside_the_models_directory_is_opened(house):
    for directory in ("/etc", "../..", "nothing"):
        refused = load(house, directory=directory)
        assert refused.status_code == 404
        assert refused.json()["detail"] == "no such directory below the models directory"
    assert load(house, version="a b").json()["path"] == "$.version"
    assert load(house, unknown=1).status_code == 422


def test_a_server_without_a_models_directory_loads_nothing(house_of):
    with house_of("sentences") as house:
        refused = load(house)
        assert refused.status_code == 403
        assert "--models-dir" in refused.json()["hint"]


def test_only_operators_may(house):
    house.plane._doorkeeper = Doorkeeper(anonymous=Caller("x", frozenset({"predict"})))
    asked = (
        load(house),
        house.client.delete("/v1/models/sentences@1"),
        house.client.put("/v1/models/sentences/aliases/a", json={"version": "1"}),
        house.client.delete("/v1/models/sentences/aliases/a"),
    )
    assert [reply.status_code for reply in asked] == [403] * 4
    assert house.client.get("/v1/models").status_code == 200


def test_paths_with_several_methods_say_which(house):
    refused = house.client.patch("/v1/models")
    assert refused.status_code == 405
    assert sorted(refused.headers["allow"].split(", ")) == ["GET", "POST"]
    assert house.client.head("/v1/models").status_code == 200
    nameless = house.client.delete("/v1/models/sentences")
    assert nameless.status_code == 422
    assert "name@version" in nameless.json()["detail"]


def test_a_load_does_not_hold_up_the_drain(house_of, models):
    with (
        house_of("sentences", models_dir=str(models)) as house,
        ThreadPoolExecutor(1) as threads,
        # Its turn never comes: another load holds the one place there is.
        house.plane.pool._one_load,
    ):
        asked = threads.submit(load, house)
        house.until(lambda: house.plane.pool.loading)
        house.server.drain()
        assert asked.result(SECONDS).status_code == 503
        house.thread.join(SECONDS)
        assert not house.thread.is_alive()


def test_versions_are_swapped_under_load_and_no_request_feels_it(house_of, models):
    """v2 comes, the alias moves, v1 goes, and back, while hundreds of requests fly."""
    with house_of("sentences", models_dir=str(models)) as house:
        assert load(house, version="1", aliases=["live"]).status_code == 200
        stop = threading.Event()
        answers: collections.Counter[tuple[int, str]] = collections.Counter()
        labels = {"1": {"refund", "delivery", "other"}, "2": {"refund", "delivery", "cancel"}}

        def ask(number: int) -> None:
            with httpx.Client(base_url=house.address, timeout=SECONDS) as client:
                while not stop.is_set():
                    name = ("router", "router@live")[number % 2]
                    reply = client.post("/v1/classify", json={"input": "hello", "model": name})
                    version = "none"
                    if reply.status_code == 200:
                        version = reply.json()["model"]["version"]
                        said = {one["label"] for one in reply.json()["items"][0]["labels"]}
                        assert said == labels[version]
                    answers[reply.status_code, version] += 1

        def swap(old: str, new: str) -> None:
            directory = "classify" if new == "2" else "router"
            assert load(house, version=new, directory=directory).status_code == 200
            moved = house.client.put("/v1/models/router/aliases/live", json={"version": new})
            assert moved.status_code == 200
            assert house.client.delete(f"/v1/models/router@{old}").status_code == 200
            before = answers[200, new]
            house.until(lambda: answers[200, new] >= before + 40)

        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask, number) for number in range(4)]
            house.until(lambda: answers[200, "1"] >= 40)
            for old, new in (("1", "2"), ("2", "1"), ("1", "2")):
                swap(old, new)
            stop.set()
            for future in asking:
                future.result(SECONDS)
        assert {status for status, _ in answers} == {200}
        assert sum(answers.values()) > 150
        house.until(lambda: set(states(house)) >= {"router@2"} and "router@1" not in states(house))
        assert len(house.plane.pool.engines) == 2
