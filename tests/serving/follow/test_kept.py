"""The table on disk: what was carried out last, whole, for each registry by itself."""

from __future__ import annotations

import pytest

from xlmr.registry.rollout.assignment import Canary, Ensemble, Shadow, Single, Weighted
from xlmr.registry.rollout.routing import Counting, Routing
from xlmr.serving.follow.kept import Kept

COUNTING = Counting(
    salt="s",
    epoch=1,
    objective_ms=120.0,
    low_confidence_below=0.5,
    unit="request",
    shadow_capacity=0.2,
)
ROUTES = (
    Single("3"),
    Canary("3", "4", 500, "s"),
    Shadow("3", "4", 1000, "s", "caller"),
    Weighted({"3": 1.0, "4": 2.0}, "s"),
    Ensemble({"3": 1.0, "4": 1.0}),
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: type(route).__name__)
def test_a_routing_comes_back_as_it_was(tmp_path, route):
    kept = Kept(tmp_path / "tables", registry="postgresql://ada:old@host/registry")
    routing = Routing(
        name="router",
        aliases={"live": "3", "next": "4"},
        route=route,
        warm=("4",),
        counting=COUNTING,
        digests={"3": "a" * 64, "4": "b" * 64},
        revision=7,
    )
    assert kept.read("router") is None
    assert kept.write(routing)
    assert kept.read("router") == routing
    # A password that was changed leads to the same registry; another host does not.
    again = Kept(tmp_path / "tables", registry="postgresql://ada:new@host/registry")
    assert again.read("router") == routing
    assert (
        Kept(tmp_path / "tables", registry="postgresql://ada@other/registry").read("router") is None
    )
    assert len(list((tmp_path / "tables").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"name": "router"'])
def test_what_cannot_be_read_is_as_if_nothing_were_kept(tmp_path, content, caplog):
    kept = Kept(tmp_path, registry="here")
    assert kept.write(Routing(name="router", aliases={"live": "1"}, route=Single("1")))
    [path] = tmp_path.iterdir()
    path.write_bytes(content)
    assert kept.read("router") is None
    assert "cannot be read" in caplog.text


def test_a_disk_that_takes_nothing_is_no_fault(tmp_path, caplog):
    (tmp_path / "tables").write_text("a file")
    kept = Kept(tmp_path / "tables", registry="here")
    assert not kept.write(Routing(name="router", aliases={"live": "1"}, route=Single("1")))
    assert "cannot be kept" in caplog.text
