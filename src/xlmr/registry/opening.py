"""A registry, opened as settings say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from xlmr.errors import SettingsError
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.envelope import Envelope, read_key
from xlmr.registry.registry import Registry
from xlmr.registry.roles import find_actor
from xlmr.registry.rollout.board import Board
from xlmr.registry.rollout.controller import Controller
from xlmr.registry.rollout.counts import CountStore, SqlCounts
from xlmr.registry.rollout.counts_redis import RedisCounts
from xlmr.registry.signature import Signer, read_trusted
from xlmr.registry.store import Progress, Store
from xlmr.settings import Settings


@contextlib.contextmanager
def open_registry(
    settings: Settings, *, actor: str = "", progress: Progress | None = None
) -> Iterator[Registry]:
    """The registry that settings name, made where there is none; closed at the end.

    Raises:
        SettingsError: a setting is not what it should be.
        UnauthenticatedError, ForbiddenError: see `find_actor`.
        RegistryUnavailableError: it cannot be reached.
    """
    who = find_actor(settings.registry_roles, name=actor, key=settings.registry_key)
    trusted = read_trusted(settings.trusted_keys)
    signer = None
    if settings.sign_key:
        key = Path(settings.sign_key).expanduser()
        signer = Signer(key, password=settings.sign_password)
    store = open_store(settings)
    catalogue = open_catalogue(settings)
    try:
        yield Registry(
            catalogue,
            store,
            who,
            signer=signer,
            trusted=trusted,
            cache_dir=settings.cache_dir,
            progress=progress,
        )
    finally:
        catalogue.close()


@contextlib.contextmanager
def open_controller(settings: Settings, *, actor: str = "") -> Iterator[Controller]:
    """The rollouts of the registry that settings name, counted in Redis if they name one.

    Raises:
        As `open_registry`.
    """
    with open_registry(settings, actor=actor) as registry, contextlib.ExitStack() as stack:
        counts: CountStore = SqlCounts(registry.catalogue)
        if settings.redis_url:
            counts = stack.enter_context(contextlib.closing(RedisCounts(settings.redis_url)))
        yield Controller(Board(registry.catalogue), counts, registry)


def open_catalogue(settings: Settings) -> Catalogue:
    """The catalogue that settings name.

    Raises:
        SettingsError, RegistryUnavailableError: as `Catalogue`.
    """
    directory = _directory(settings)
    return Catalogue(settings.registry if directory is None else str(directory / "catalogue.db"))


def open_store(settings: Settings, *, url: str = "") -> Store:
    """The store that settings name, or another one sealed with the same key.

    Raises:
        SettingsError: a database is named, and no store.
        RegistryError: no store that is known.
    """
    directory = _directory(settings)
    url = url or settings.registry_store
    if not url and directory is None:
        raise SettingsError(
            "the registry's database does not say where its artifacts lie",
            hint="--registry-store URL, or XLMR_REGISTRY_STORE",
        )
    key = read_key(settings.seal_key, settings.seal_key_file)
    envelope = Envelope(key) if key is not None else None
    return Store(url or str(directory and directory / "store"), envelope=envelope)


def _directory(settings: Settings) -> Path | None:
    if "://" in settings.registry:
        return None
    return Path(settings.registry).expanduser().absolute()
