"""What is loaded under which name: versions, aliases, and the routes that follow from them.

A name in a request is `name`, `name@version` or `name@alias`. The bare name, and `name@live`, lead
to the version that the alias `live` points to; where there is no such alias, to the newest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xlmr.errors import (
    ForbiddenError,
    InputError,
    ModelConflictError,
    ModelNotFoundError,
    SettingsError,
    TaskError,
)
from xlmr.types import ModelRef

if TYPE_CHECKING:
    from xlmr.drift.reference import Reference
    from xlmr.model.predictor import Predictor
    from xlmr.serving.batcher import Batcher
    from xlmr.serving.engines import Engine
    from xlmr.serving.proof import Proof

LIVE = "live"
# How many hexadecimal digits of its digest stand for a version that was given no name.
_VERSION_DIGITS = 12
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

State = Literal["loading", "ready", "draining", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A model that should be loaded.

    Attributes:
        version: empty for the first digits of its digest.
        aliases: of this name, which then lead to this version.
        digest: what the model's must be; empty where nothing was promised.
        tree: digest of all files, as the registry it comes from knows it; empty for a plain
            directory. The bare name never leads to such a version unless `live` does.
        bring: makes the directory be there, unless it is.
    """

    directory: Path
    name: str
    version: str = ""
    aliases: tuple[str, ...] = ()
    digest: str = ""
    tree: str = ""
    bring: Callable[[], None] | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True, eq=False)
class Entry:
    """The life of one version: what becomes of an order. Changed under the pool's lock alone.

    Attributes:
        holders: requests that were routed to it and are not over.
        stage: while it is loaded, what is being done.
        reason: why it failed.
    """

    order: Order
    version: str
    state: State = "loading"
    stage: str = "waiting"
    reason: str = ""
    holders: int = 0
    served: Served | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A model under the name it is served by, what it can do, and the batcher that computes it.

    `reference` is what its traffic is held against; None where it was released without.
    """

    ref: ModelRef
    tasks: frozenset[str]
    predictor: Predictor
    batcher: Batcher
    engine: Engine = field(repr=False)
    entry: Entry = field(repr=False)
    proof: Proof = field(repr=False)
    reference: Reference | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A version as it can be shown.

    Attributes:
        stage: while loading: `waiting`, `pulling`, `verifying`, `reading`, `preparing` or
            `proving`.
        reason: why it failed, else empty.
        aliases: that lead to it; `live` is among them where the bare name does.
        signed: whether a trusted key signed it.
        golden_inputs: how many promised answers it gave again; None where it promises none.
        requests: in flight on it.
    """

    name: str
    version: str
    state: State
    stage: str = ""
    reason: str = ""
    digest: str = ""
    tasks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    runtime: str = ""
    max_tokens: int = 0
    tokenizer: str = ""
    signed: bool = False
    golden_inputs: int | None = None
    requests: int = 0


Versions = Mapping[str, Mapping[str, Served]]
Aliases = Mapping[str, Mapping[str, str]]


class Routes:
    """All routes of a moment. Never changed, so a reader needs no lock.

    Attributes:
        versions: by name, then by version, the oldest first.
        aliases: by name, then by alias, the version it was pointed to.
        models: what each bare name leads to.
    """

    __slots__ = ("_routes", "aliases", "models", "versions")

    def __init__(self, versions: Versions, aliases: Aliases) -> None:
        self.versions = versions
        self.aliases = aliases
        self.models: dict[str, Served] = {}
        self._routes: dict[str, Served] = {}
        for name, loaded in versions.items():
            known = aliases.get(name, {})
            live = loaded[known[LIVE]] if LIVE in known else _newest(loaded)
            if live is not None:
                self.models[name] = self._routes[name] = self._routes[f"{name}@{LIVE}"] = live
            for alias, version in known.items():
                self._routes[f"{name}@{alias}"] = loaded[version]
            for version, served in loaded.items():
                self._routes[f"{name}@{version}"] = served

    def find(self, name: str, version: str) -> Served | None:
        """A version by its own name, aliases left aside."""
        return self.versions.get(name, {}).get(version)

    def aliases_of(self, served: Served) -> tuple[str, ...]:
        """The aliases that lead to a version, sorted; `live` if the bare name does."""
        name, version = served.ref.name, served.ref.version
        found = {alias for alias, to in self.aliases.get(name, {}).items() if to == version}
        return tuple(sorted(found | ({LIVE} if self.models.get(name) is served else set())))

    def route(self, name: str | None, task: str | None) -> Served:
        """The model that answers; without a name, the only one that can. Any can do no task.

        Raises:
            ModelNotFoundError: none of that name.
            TaskError: it cannot do the task, or no model can.
            InputError: no name, and several could.
        """
        if name is not None:
            served = self._routes.get(name)
            if served is None:
                raise ModelNotFoundError(f"no model of that name; {self._known(name)}")
            if task is not None and task not in served.tasks:
                able = ", ".join(sorted(served.tasks))
                raise TaskError(f"{served.ref.name} cannot {task}", hint=f"it can {able}")
            return served
        able_models = [m for m in self.models.values() if task is None or task in m.tasks]
        if not able_models:
            raise TaskError(f"no loaded model can {task}" if task else "no model is loaded")
        if len(able_models) > 1:
            names = ", ".join(served.ref.name for served in able_models)
            can = f"can {task}" if task else "are loaded"
            raise InputError(f"several models {can}: {names}", path="$.model", hint="name one")
        return able_models[0]

    def with_version(self, served: Served, aliases: Sequence[str]) -> Routes:
        """The routes with one version more, and aliases that lead to it."""
        ref = served.ref
        versions = {**self.versions.get(ref.name, {}), ref.version: served}
        moved = {**self.aliases.get(ref.name, {}), **dict.fromkeys(aliases, ref.version)}
        return Routes({**self.versions, ref.name: versions}, {**self.aliases, ref.name: moved})

    def without_version(self, served: Served) -> Routes:
        """The routes without a version that no alias points to.

        Raises:
            ModelConflictError: an alias does.
        """
        name, version = served.ref.name, served.ref.version
        for alias, to in self.aliases.get(name, {}).items():
            if to == version:
                raise ModelConflictError(
                    f"the alias {alias} points to {name}@{version}",
                    hint="point it elsewhere or delete it first",
                )
        left = {v: s for v, s in self.versions[name].items() if v != version}
        others = {n: versions for n, versions in self.versions.items() if n != name}
        return Routes({**others, name: left} if left else others, self.aliases)

    def with_alias(self, name: str, alias: str, version: str) -> Routes:
        """The routes with an alias that leads to a version.

        Raises:
            InputError: not the name of an alias.
            ModelNotFoundError: no such version.
            ModelConflictError: the alias is the name of a version.
        """
        self.check_alias(name, alias, version)
        if self.find(name, version) is None:
            raise ModelNotFoundError(f"no version {version} of {name}; {self._known(name)}")
        moved = {**self.aliases.get(name, {}), alias: version}
        return Routes(self.versions, {**self.aliases, name: moved})

    def without_alias(self, name: str, alias: str) -> Routes:
        """The routes without an alias.

        Raises:
            ModelNotFoundError: there is none.
        """
        known = self.aliases.get(name, {})
        if alias not in known:
            raise ModelNotFoundError(f"no alias {alias} of {name}")
        left = {a: version for a, version in known.items() if a != alias}
        return Routes(self.versions, {**self.aliases, name: left})

    def check_order(self, order: Order, version: str) -> None:
        """Refuses a version that is called like an alias of its name, or the other way round.

        Raises:
            InputError: an alias that is no word.
            ModelConflictError: two of one name.
        """
        if version in self.aliases.get(order.name, {}):
            raise ModelConflictError(f"{version} is an alias of {order.name}, not a version")
        for alias in order.aliases:
            self.check_alias(order.name, alias, version)

    def check_alias(self, name: str, alias: str, version: str) -> None:
        """Refuses an alias that is no word, or that a version is called by.

        Raises:
            InputError: no word.
            ModelConflictError: a version of the name is called so.
        """
        check_token(alias, "$.alias")
        if alias == version or self.find(name, alias) is not None:
            raise ModelConflictError(f"{alias} is a version of {name}, not an alias")

    def _known(self, name: str) -> str:
        bare = name.partition("@")[0]
        if bare in self.versions:
            return f"versions of {bare}: {', '.join(self.versions[bare])}"
        return f"loaded: {', '.join(self.versions) or 'none'}"


def _newest(loaded: Mapping[str, Served]) -> Served | None:
    """What answers where nobody said what is live; of a registry's versions none does."""
    plain = [served for served in loaded.values() if not served.entry.order.tree]
    return plain[-1] if plain else None


def state_of(routes: Routes, entry: Entry) -> ModelState:
    """An entry as it can be shown."""
    order, served = entry.order, entry.served
    state = ModelState(
        name=order.name,
        version=entry.version,
        state=entry.state,
        stage=entry.stage if entry.state == "loading" else "",
        reason=entry.reason,
        requests=entry.holders,
    )
    if served is None:
        return state
    return replace(
        state,
        digest=served.ref.digest,
        tasks=tuple(sorted(served.tasks)),
        aliases=routes.aliases_of(served),
        runtime=served.engine.name,
        max_tokens=served.predictor.max_tokens,
        tokenizer=served.proof.tokenizer,
        signed=served.proof.signed,
        golden_inputs=served.proof.golden_inputs,
    )


def could_be_loading(entries: Sequence[Entry], routes: Routes, name: str | None) -> bool:
    """Whether a model that is being loaded could be the one that was asked for."""
    loading = [entry for entry in entries if entry.state == "loading"]
    if name is None:
        return bool(loading) and not routes.models
    bare, _, version = name.partition("@")
    return any(
        entry.order.name == bare and version in ("", entry.version, *entry.order.aliases)
        for entry in loading
    )


def check_token(word: str, path: str) -> None:
    """Refuses what cannot stand in a model's name, version or alias.

    Raises:
        InputError: at `path`.
    """
    if not _TOKEN.fullmatch(word):
        raise InputError(
            "expected letters, digits, dots, dashes and underscores, at most 100", path=path
        )


def version_of(order: Order, digest: str) -> str:
    """The version a model is served as."""
    return order.version or digest[:_VERSION_DIGITS]


def read_places(places: Sequence[str]) -> list[Order]:
    """Orders as a command line gives them: `DIR`, `NAME=DIR` or `NAME@VERSION=DIR`.

    Raises:
        SettingsError: two of one name and version, or a version that cannot be one.
    """
    orders: list[Order] = []
    for place in places:
        given, separator, directory = place.rpartition("=")
        path = Path(directory)
        name, at, version = (given if separator else path.resolve().name).partition("@")
        if not name or (at and not _TOKEN.fullmatch(version)) or version == LIVE:
            raise SettingsError(
                f"{place}: neither a name nor a version", hint="give NAME=DIR or NAME@VERSION=DIR"
            )
        orders.append(Order(directory=path, name=name, version=version))
    if len({(order.name, order.version) for order in orders}) < len(orders):
        raise SettingsError(
            "two models have the same name", hint="name them: NAME=DIR or NAME@VERSION=DIR"
        )
    return orders


def foreign_order(order: Order, *, root: str) -> Order:
    """An order from outside, checked, with its directory found below a root.

    Raises:
        ForbiddenError: there is no root.
        InputError: a name, version, alias or digest that cannot be one.
        ModelNotFoundError: no such directory below it.
    """
    if not root:
        raise ForbiddenError(
            "this server loads no models over its API", hint="start it with --models-dir"
        )
    check_token(order.name, "$.name")
    if order.version:
        check_token(order.version, "$.version")
    if order.version == LIVE:
        raise InputError(f"{LIVE} is an alias", path="$.version")
    for place, alias in enumerate(order.aliases):
        check_token(alias, f"$.aliases[{place}]")
    if order.digest and not _DIGEST.fullmatch(order.digest):
        raise InputError("expected 64 hexadecimal digits", path="$.digest")
    return replace(order, directory=_confined(order.directory, Path(root)))


def _confined(directory: Path, root: Path) -> Path:
    """A directory below a root, links followed.

    Raises:
        ModelNotFoundError: it lies elsewhere or nowhere; which of the two is not said.
    """
    base = root.expanduser().resolve()
    try:
        path = (base / directory).resolve()
        inside = path.is_relative_to(base) and path != base and path.is_dir()
    except (OSError, ValueError):
        inside = False  # a name too long for the system, or with a zero in it
    if not inside:
        raise ModelNotFoundError(
            "no such directory below the models directory", hint="give its path from there"
        )
    return path
