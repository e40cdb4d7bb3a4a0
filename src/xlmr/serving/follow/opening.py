"""`registry:NAME` on a command line becomes a server that follows the registry for this name."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xlmr.errors import InputError, RegistryUnavailableError, SettingsError
from xlmr.serving.follow.copies import Copies
from xlmr.serving.follow.counting import Counting
from xlmr.serving.follow.follower import Follower
from xlmr.serving.follow.kept import Kept
from xlmr.serving.follow.ledger import Ledger
from xlmr.serving.versions import Order, check_token, read_places

if TYPE_CHECKING:
    from xlmr.registry.rollout.controller import Controller
    from xlmr.registry.rollout.counts import CountStore
    from xlmr.registry.rollout.routing import Routing
    from xlmr.serving.pool import Pool
    from xlmr.serving.routing.book import RouteBook
    from xlmr.serving.routing.tally import Tally
    from xlmr.settings import Settings
    from xlmr.telemetry.metrics import Metrics

PREFIX = "registry:"


class Link:
    """The registry that settings name, opened when it is first reached and kept open."""

    def __init__(self, settings: Settings) -> None:
        # Where unsigned versions are served they are pulled too; what is signed is checked at load.
        unsigned = settings.allow_unsigned == "yes"
        self._settings = replace(settings, trusted_keys="") if unsigned else settings
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._opened: Controller | None = None

    def controller(self) -> Controller:
        """What acts on it.

        Raises:
            RegistryUnavailableError: it cannot be reached.
            XlmrError: see `open_controller`.
        """
        from xlmr.registry.opening import open_controller

        with self._lock:
            if self._opened is None:
                self._opened = self._stack.enter_context(open_controller(self._settings))
            return self._opened

    def counts(self) -> CountStore:
        """Where counts are added up."""
        return self.controller().counts

    def pull(self, reference: str, out: Path) -> None:
        """Writes a version as a model directory, checked on the way, whole or not at all."""
        self.controller().registry.pull(reference, out, force=True)

    def close(self) -> None:
        """Gives its connections back."""
        with self._lock:
            self._stack.close()
            self._opened = None


class Following:
    """A server's part in what the registry says: follows, counts, and ends with it.

    Args:
        names: that are followed.
        pool, book, tally: of the server.
        settings: where the registry is, whom it trusts, and where copies lie.
        metrics: that tell how it goes.

    Raises:
        SettingsError: nobody is trusted, and it is not said that unsigned versions may be served.
        XlmrError: the registry cannot be used; one that is only away will be waited for.
    """

    def __init__(
        self,
        names: Sequence[str],
        pool: Pool,
        book: RouteBook,
        tally: Tally,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        if not settings.trusted_keys and settings.allow_unsigned != "yes":
            raise SettingsError(
                "versions of a registry are served only if somebody who is trusted signed them",
                hint="--trusted-keys KEYS, as `xlmr registry keygen` makes them; "
                "or --allow-unsigned",
            )
        link = self._link = Link(settings)
        with contextlib.suppress(RegistryUnavailableError):
            link.controller()

        def read() -> Mapping[str, Routing]:
            return link.controller().board.table(names)

        root = settings.cache_dir / "registry"
        self.follower = Follower(
            pool,
            book,
            names=names,
            read=read,
            pull=link.pull,
            copies=Copies(root / "copies"),
            kept=Kept(root / "routings", registry=settings.registry),
            every_s=settings.follow_seconds,
        )
        self._counting = Counting(
            Ledger(f"{socket.gethostname()[:100]}-{secrets.token_hex(8)}"),
            drain=lambda now: tally.drain(now=now),
            counts=link.counts,
            look=lambda name: link.controller().look(name),
            names=names,
            every_s=settings.follow_seconds,
        )
        metrics.watch_registry(lambda: self.follower.age_s, self.follower.counts)

    def begin(self) -> None:
        """Starts, and waits until what is named is loaded or has failed once."""
        self.follower.begin()
        self._counting.begin()

    def close(self) -> None:
        """Ends it. Calling it twice, or without `begin`, is harmless."""
        self.follower.close()
        self._counting.close()
        self._link.close()


def sorted_places(places: Sequence[str]) -> tuple[list[str], list[Order]]:
    """Names to follow, `registry:NAME`, and orders for all other places; see `read_places`.

    Raises:
        SettingsError: a name that cannot be one, or twice.
    """
    names = [place.removeprefix(PREFIX) for place in places if place.startswith(PREFIX)]
    for name in names:
        try:
            check_token(name, "$")
        except InputError as fault:
            raise SettingsError(
                f"{PREFIX}{name}: {fault.message}",
                hint="the registry says which version is live; `xlmr registry alias` changes it",
            ) from None
    orders = read_places([place for place in places if not place.startswith(PREFIX)])
    taken = [*names, *{order.name for order in orders}]
    twice = next((name for name in names if taken.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(
            f"{twice} follows the registry, and something else has that name too",
            hint="give directories other names: NAME=DIR",
        )
    return names, orders
