"""What the registry says is what is served, as soon as it can be and no sooner."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pytest

from xlmr.errors import RegistryUnavailableError, SettingsError
from xlmr.model.importing.staging import build_directory
from xlmr.registry.manifest import make_manifest
from xlmr.registry.rollout.assignment import Canary, Ensemble, Route, Single
from xlmr.registry.rollout.routing import Routing
from xlmr.serving.follow.copies import Copies
from xlmr.serving.follow.follower import Follower
from xlmr.serving.follow.kept import Kept
from xlmr.serving.follow.opening import sorted_places
from xlmr.serving.pool import Pool
from xlmr.serving.routing.book import RouteBook
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics


def blob(place, model: Path, name: str) -> Path:
    """A file of a model as the store keeps it."""
    [entry] = [entry for entry in make_manifest(model).files if entry.path == name]
    return place.root / "registry" / "store" / "blobs" / entry.sha256[:2] / entry.sha256


def copy_of(place, model: Path, cache: str = "cache") -> Path:
    return place.root / cache / "registry" / "copies" / make_manifest(model).digest


def test_promotion_and_rollback_are_followed(place, models, server_of, caplog):
    caplog.set_level(logging.INFO)
    place.push(models[0], live=True)
    place.push(models[1])
    server = server_of()
    assert (server.answers(), server.ready()) == ("1", {"1"})
    assert server.book.routes == {"router": Single("1")}
    place.promote(2)
    server.until(lambda: server.answers() == "2")
    server.until(lambda: server.ready() == {"2"})
    place.promote(1, alias="before")
    server.until(lambda: server.ready() == {"1", "2"})
    server.until(
        lambda: [s.version for s in server.pool.states() if "before" in s.aliases] == ["1"]
    )
    place.rollback()
    warm_s = server.until(lambda: server.book.routes["router"] == Single("1"))
    print(f"rollback took effect after {warm_s * 1000:.0f} ms")
    server.until(lambda: server.answers() == "1")
    server.until(lambda: server.metrics.value("xlmr_registry_versions", state="ready") == 1)
    for line in ("router@live is version 2, was 1", "router: version 2 answers"):
        assert line in caplog.messages
    assert 0 <= server.metrics.value("xlmr_registry_age_seconds") < 30


def test_nothing_answers_a_bare_name_that_nobody_made_live(place, models, server_of):
    place.push(models[0])
    place.promote(1, alias="next")
    server = server_of()
    assert (server.answers(), server.ready()) == ("", set())
    place.promote(1)
    server.until(lambda: server.answers() == "1")


def test_an_alias_set_on_the_server_is_set_back(place, models, server_of):
    place.push(models[0], live=True)
    place.push(models[1])
    place.promote(2, alias="next")
    server = server_of()
    server.pool.point("router", "live", "2")
    server.pool.point("router", "mine", "2")
    server.until(lambda: server.answers() == "1")
    server.until(lambda: not [s for s in server.pool.states() if "mine" in s.aliases])


def tampered(place, model: Path) -> str:
    path = blob(place, model, "xlmr.json")
    path.write_bytes(path.read_bytes().replace(b"refund", b"cancel"))
    return "xlmr.json in the store: not the content it should be"


def swapped(place, model: Path) -> str:
    path = blob(place, model, "tokenizer.json")
    path.write_bytes(path.read_bytes().replace(b"hello", b"hullo"))
    return "tokenizer.json in the store: not the content it should be"


@pytest.mark.parametrize("tamper", [tampered, swapped])
def test_what_was_altered_in_the_store_is_refused_and_named(place, models, server_of, tamper):
    place.push(models[0], live=True)
    server = server_of()
    place.push(models[1])
    said = tamper(place, models[1])
    # Both share the tokenizer, so its blob is altered for both: what is served already stays.
    place.promote(2)
    server.until(lambda: "2" in server.failed())
    assert said in server.failed()["2"]
    assert (server.answers(), server.book.routes["router"]) == ("1", Single("1"))
    assert server.metrics.value("xlmr_registry_versions", state="failed") == 1
    assert server.metrics.value("xlmr_model_state", version="2", state="failed") == 1
    place.rollback()
    server.until(lambda: not server.failed())


@pytest.mark.parametrize(
    ("key", "said", "lax"),
    [("", "not signed", {}), ("theirs", "is not trusted", {"trusted_keys": ""})],
)
def test_a_version_that_nobody_trusted_signed_is_refused(place, models, server_of, key, said, lax):
    place.push(models[0], live=True)
    server = server_of()
    # Whoever promotes without keys of their own does not notice.
    place.push(models[1], key=key, live=True)
    server.until(lambda: "2" in server.failed())
    assert said in server.failed()["2"]
    assert server.answers() == "1"
    unsigned = server_of("elsewhere", allow_unsigned="yes", **lax)
    assert unsigned.answers() == "2"
    # A signature that is added later heals it.
    place.push(models[1])
    server.until(lambda: server.answers() == "2")


def test_a_copy_that_was_altered_is_pulled_again(place, models, server_of):
    place.push(models[0], live=True)
    first = server_of()
    assert first.answers() == "1"
    first.following.close()
    (copy_of(place, models[0]) / "config.json").write_text("{}")
    server = server_of()
    server.until(lambda: server.answers() == "1")
    make_manifest(copy_of(place, models[0]))


def test_a_server_without_its_registry_starts_from_what_it_last_served(place, models, server_of):
    place.push(models[0], live=True)
    place.push(models[1])
    place.promote(2, alias="next")
    first = server_of()
    first.until(lambda: first.ready() == {"1", "2"})
    first.until(lambda: list((place.root / "cache" / "registry" / "routings").glob("*.json")))
    first.following.close()
    (place.root / "registry").rename(place.root / "away")
    (place.root / "registry").write_text("no directory")
    server = server_of()
    assert (server.answers(), server.ready()) == ("1", {"1", "2"})
    assert server.book.routes == {"router": Single("1")}
    # A copy that was altered meanwhile is not served all the same.
    server.following.close()
    shutil.copy(models[0] / "config.json", copy_of(place, models[0]) / "note.json")
    third = server_of()
    third.until(lambda: "1" in third.failed())
    assert "note.json was added" in third.failed()["1"]
    assert third.answers() == ""
    # And once the registry is there again, all is well.
    (place.root / "registry").unlink()
    (place.root / "away").rename(place.root / "registry")
    third.until(lambda: third.answers() == "1")


def test_a_live_version_that_cannot_be_had_leaves_the_last_one(place, models, server_of):
    place.push(models[0], live=True)
    first = server_of()
    assert first.answers() == "1"
    first.following.close()
    place.push(models[1], live=True)
    store = place.root / "registry" / "store"
    store.rename(place.root / "away")
    server = server_of()
    assert (server.answers(), set(server.failed())) == ("1", {"2"})
    assert server.book.routes == {"router": Single("1")}
    (place.root / "away").rename(store)
    server.until(lambda: (server.answers(), server.ready()) == ("2", {"2"}))


def test_a_registry_that_is_not_there_yet_is_waited_for(place, models, server_of):
    (place.root / "registry").write_text("no directory")
    server = server_of()
    assert server.pool.vitals.unready() == ["no model is loaded"]
    (place.root / "registry").unlink()
    place.push(models[0], live=True)
    server.until(lambda: server.answers() == "1")


class Told:
    """A registry that says what it is told, and may be away."""

    def __init__(self, models: list[Path]) -> None:
        self.models = {str(number): model for number, model in enumerate(models, 1)}
        self.route: Route = Single("1")
        self.live = "1"
        self.away = False
        self.slow = threading.Event()
        self.slow.set()
        self.revision = 0
        self.digests = {version: make_manifest(m).digest for version, m in self.models.items()}

    def say(self, route: Route, live: str = "1") -> None:
        self.route, self.live = route, live
        self.revision += 1

    def read(self) -> dict[str, Routing]:
        if self.away:
            raise RegistryUnavailableError("away")
        return {
            "router": Routing(
                name="router",
                aliases={"live": self.live},
                route=self.route,
                digests=self.digests,
                revision=self.revision,
            )
        }

    def pull(self, reference: str, out: Path) -> None:
        assert self.slow.wait(30)
        model = self.models[reference.partition("@")[2]]

        def write(staged: Path) -> None:
            shutil.copytree(model, staged, dirs_exist_ok=True)
            (staged / "xlmr-manifest.json").write_bytes(make_manifest(model).to_bytes())

        build_directory(out, write, force=True)


@pytest.fixture
def told(models):
    return Told(models)


@pytest.fixture
def stepped(told, tmp_path):
    """A follower whose looks are taken by hand, and what it acts on."""
    metrics = Metrics()
    pool = Pool(Settings(runtime="reference", cache_dir=tmp_path / "cache"), metrics)
    book = RouteBook(pool)
    follower = Follower(
        pool,
        book,
        names=["router"],
        read=told.read,
        pull=told.pull,
        copies=Copies(tmp_path / "copies"),
        kept=Kept(tmp_path / "routings", registry="told"),
        every_s=0.05,
    )
    follower.begin()
    yield follower, pool, book
    told.slow.set()
    follower.close()
    pool.close()


def eventually(holds) -> None:
    waited = threading.Event()
    for _ in range(3000):
        if holds():
            return
        waited.wait(0.01)
    pytest.fail("it never held")


def test_a_route_waits_for_all_its_versions_and_stays_what_it_was_until_then(told, stepped):
    follower, pool, book = stepped
    told.slow.clear()
    told.say(Canary("1", "2", 500, "s"))
    eventually(lambda: any(state.stage == "pulling" for state in pool.states()))
    assert book.routes["router"] == Single("1")
    assert follower.counts() == {"ready": 1, "failed": 0, "missing": 1}
    told.slow.set()
    eventually(lambda: book.routes["router"] == Canary("1", "2", 500, "s"))
    # A version that is being brought holds up no other change.
    told.slow.clear()
    told.say(Ensemble({"1": 1.0, "3": 1.0}))
    eventually(lambda: any(state.stage == "pulling" for state in pool.states()))
    told.say(Single("2"), live="2")
    eventually(lambda: book.routes["router"] == Single("2"))
    told.slow.set()
    # And what is named no more by the time it is there is let go again.
    eventually(lambda: {s.version for s in pool.states()} == {"2"})


def test_an_absent_registry_changes_nothing_and_is_said_once(told, stepped, caplog):
    follower, pool, book = stepped
    told.away = True
    told.say(Single("2"), live="2")
    eventually(lambda: follower.age_s > 0.3)
    assert (pool.models["router"].ref.version, book.routes["router"]) == ("1", Single("1"))
    assert caplog.text.count("the registry cannot be read") == 1
    told.away = False
    eventually(lambda: book.routes["router"] == Single("2"))
    assert follower.age_s < 0.3
    assert caplog.text.count("no longer true") == 1


def test_names_on_the_command_line():
    names, orders = sorted_places(["registry:router", "a=models/a", "registry:tagger", "models/b"])
    assert (names, [order.name for order in orders]) == (["router", "tagger"], ["a", "b"])
    for wrong in (
        ["registry:"],
        ["registry:router@3"],
        ["registry:a", "registry:a"],
        ["registry:router", "router@3=models/a"],
    ):
        with pytest.raises(SettingsError):
            sorted_places(wrong)


def test_a_registry_is_not_served_from_unless_somebody_is_trusted(place, server_of):
    with pytest.raises(SettingsError, match="trusted") as refused:
        server_of(trusted_keys="")
    assert "--allow-unsigned" in str(refused.value)
