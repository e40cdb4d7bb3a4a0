"""Models by their names alone, as clients of the Open Inference Protocol's repository ask for them:
a name stands for the directory of that name below the models directory.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from xlmr.errors import InputError, ModelNotFoundError, UnavailableError
from xlmr.serving.versions import ModelState, Order

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Future

    from xlmr.serving.dataplane import Dataplane
    from xlmr.serving.versions import Served

# What Triton calls the states of a version.
_STATES = {"ready": "READY", "loading": "LOADING", "draining": "UNLOADING", "failed": "UNAVAILABLE"}
# Between two looks whether the server is on its way down.
_LOOK_SECONDS = 0.2


def index(plane: Dataplane, *, ready: bool) -> list[tuple[ModelState, str]]:
    """Every version, or those that answer, each with its state in the protocol's words."""
    states = plane.pool.states()
    return [(one, _STATES[one.state]) for one in states if not ready or one.state == "ready"]


async def load(plane: Dataplane, name: str, parameters: Collection[str] = ()) -> None:
    """Loads what lies in the directory of that name; the same content twice changes nothing.

    Raises:
        InputError: parameters, which would have it be another model than it is; or no name.
        XlmrError: as `Pool.begin` and `Pool.load`.
    """
    if parameters:
        raise InputError(
            "models are loaded as they lie in the directory, without parameters",
            path="$.parameters",
        )
    _, loading = plane.pool.begin(Order(name=name, directory=Path(name)))
    await loaded(plane, loading)


async def loaded(plane: Dataplane, loading: Future[Served]) -> Served:
    """What is being loaded, once it is ready; not waited for where the server goes down.

    Raises:
        UnavailableError: the server is going down.
        XlmrError: why it cannot be loaded.
    """
    waiting = asyncio.wrap_future(loading)
    while not waiting.done():
        await asyncio.wait([waiting], timeout=_LOOK_SECONDS)
        if plane.leaving and not waiting.done():
            raise UnavailableError("the server is going down")
    return waiting.result()


def unload(plane: Dataplane, name: str) -> None:
    """Unloads every version of a name; what they have in flight is answered first.

    Raises:
        ModelNotFoundError: there is none.
        ModelConflictError: an alias points to one of them; those before it are gone.
    """
    states = plane.pool.states()
    versions = [one.version for one in states if one.name == name and one.state != "draining"]
    if not versions:
        raise ModelNotFoundError("no model of that name", hint="POST /v2/repository/index")
    for version in versions:
        plane.pool.unload(name, version)
