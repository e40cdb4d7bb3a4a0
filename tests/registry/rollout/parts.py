"""A catalogue with versions of a name, without their files; and evidence on them."""

from __future__ import annotations

from dataclasses import replace

from xlmr.registry.catalogue import Catalogue
from xlmr.registry.journal import FORWARD, Line
from xlmr.registry.rollout.evidence import CANDIDATE, LIVE, Counts, Evidence, Pairs
from xlmr.registry.tables import Version


def catalogue_with_versions(url: str, count: int = 3, *, live: int = 1) -> Catalogue:
    """Versions 1 to `count` of `router`; one of them live."""
    catalogue = Catalogue(url)
    with catalogue.change() as change:
        for number in range(1, count + 1):
            digest = f"{number:064d}"
            line = Line(actor="ada", action="push", name="router", version=number, digest=digest)
            entry = change.note(line)
            version = Version(
                name="router",
                version=number,
                digest=digest,
                answers=digest,
                pushed_us=entry.at_us,
                pushed_by="ada",
            )
            change.add_version(version)
    if live:
        move_live(catalogue, live)
    return catalogue


def move_live(catalogue: Catalogue, version: int) -> None:
    """By hand, as `xlmr registry alias` does."""
    with catalogue.change() as change:
        before = change.alias("router", "live")
        change.set_alias("router", "live", version, expected=before)
        line = Line(actor="eve", action=FORWARD, name="router", alias="live", version=version)
        change.note(replace(line, previous=before))


def fair(units: int, share: float, *, harmed: int = 0, language: str = "de") -> Evidence:
    """A candidate as good as the live version, but for so many 5xx of its own."""
    others = round(units / share * (1.0 - share))
    return Evidence(
        arms={
            CANDIDATE: {language: Counts(units=units, events={"5xx": harmed})},
            LIVE: {language: Counts(units=others)},
        },
        pairs={language: Pairs(compared=units, disagreed=units // 50)} if share == 0.5 else {},
    )
