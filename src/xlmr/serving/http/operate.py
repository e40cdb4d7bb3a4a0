"""For operators: models are loaded and unloaded, and aliases moved, while the server serves."""

from __future__ import annotations

from pathlib import Path

import msgspec

from xlmr.errors import InputError
from xlmr.serving.dataplane import Dataplane, ModelState, Order
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.endpoint import Action, Call
from xlmr.serving.http.models import ModelCard, card_of
from xlmr.serving.http.problems import Reply, native_problem
from xlmr.serving.repository import loaded


class LoadModel(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A model directory, and the name it is to be served by.

    `directory`: its path below the server's models directory. `version`: the first digits of the
    model's digest where it is left out. `aliases` lead to it from then on. `digest`: what the
    model's SHA-256 must be; empty for whatever it is. `wait`: whether the answer comes when the
    model is ready; else it comes at once, and `GET /v1/models` shows how far it is.
    """

    name: str
    directory: str
    version: str = ""
    aliases: list[str] = []
    digest: str = ""
    wait: bool = True


class PointAlias(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The version that the alias leads to from now on."""

    version: str


_decode_load = Decoder(LoadModel)
_decode_alias = Decoder(PointAlias)
_encoder = msgspec.json.Encoder()


async def load(plane: Dataplane, call: Call) -> Reply:
    """Loads a model, unless it is there already.

    Raises:
        ForbiddenError: the server has no models directory.
        InputError: a name, version or alias that cannot be one.
        ModelError: the directory cannot be used, or does not keep its promises.
        ModelConflictError: another model has that name and version.
        UnavailableError: the server is going down.
    """
    request = _decode_load(call.body)
    order = Order(
        name=request.name,
        directory=Path(request.directory),
        version=request.version,
        aliases=tuple(request.aliases),
        digest=request.digest.lower(),
    )
    state, loading = plane.pool.begin(order)
    if not request.wait:
        return _shown(plane, state, status=202)
    served = await loaded(plane, loading)
    return _shown(plane, plane.pool.state_of(f"{served.ref.name}@{served.ref.version}"))


async def unload(plane: Dataplane, call: Call) -> Reply:
    """Unloads a version; what it has in flight is answered first.

    Raises:
        InputError: no version is named.
        ModelNotFoundError: no such version.
        ModelConflictError: an alias points to it, or it is being loaded.
    """
    name, _, version = call.path_params["model"].partition("@")
    if not version:
        raise InputError("expected name@version in the path", hint="GET /v1/models lists them")
    return _shown(plane, plane.pool.unload(name, version))


async def point(plane: Dataplane, call: Call) -> Reply:
    """Has an alias lead to a version.

    Raises:
        InputError: not the name of an alias.
        ModelNotFoundError: no such version.
        ModelConflictError: the alias is the name of a version.
    """
    request = _decode_alias(call.body)
    name, alias = call.path_params["model"], call.path_params["alias"]
    return _shown(plane, plane.pool.point(name, alias, request.version))


async def drop_alias(plane: Dataplane, call: Call) -> Reply:
    """Forgets an alias.

    Raises:
        ModelNotFoundError: there is none.
    """
    name, alias = call.path_params["model"], call.path_params["alias"]
    return _shown(plane, plane.pool.drop_alias(name, alias))


def _shown(plane: Dataplane, state: ModelState, *, status: int = 200) -> Reply:
    return Reply(_encoder.encode(card_of(plane, state)), status)


_FOR_OPERATORS = "Needs the role `operate`. "
OPERATIONS = (
    Action(
        path="/v1/models",
        method="POST",
        summary="Load a model",
        description=_FOR_OPERATORS
        + (
            "The version becomes ready once it has proven itself: its digest, its tokenizer, its "
            "golden inputs, and a text longer than it reads. If it fails, everything stays as it "
            "was. Loading the same model twice changes nothing."
        ),
        problem=native_problem,
        request=LoadModel,
        response=ModelCard,
        replies={202: ModelCard},
        example={"name": "router", "version": "2", "directory": "router-2", "aliases": ["next"]},
        statuses=(400, 401, 403, 404, 409, 413, 415, 422, 500, 503),
        act=load,
    ),
    Action(
        path="/v1/models/{model}",
        method="DELETE",
        summary="Unload a version",
        description=_FOR_OPERATORS
        + (
            "`model` is `name@version`. Requests that are on their way to it are answered by it. "
            "A version that an alias points to stays."
        ),
        problem=native_problem,
        response=ModelCard,
        statuses=(401, 403, 404, 409, 422, 500, 503),
        act=unload,
    ),
    Action(
        path="/v1/models/{model}/aliases/{alias}",
        method="PUT",
        summary="Point an alias to a version",
        description=_FOR_OPERATORS
        + (
            "Requests ask for it as `name@alias`. The alias `live` is what the plain name leads "
            "to; without it, that is the version that was loaded last."
        ),
        problem=native_problem,
        request=PointAlias,
        response=ModelCard,
        example={"version": "2"},
        statuses=(400, 401, 403, 404, 409, 413, 415, 422, 500, 503),
        act=point,
    ),
    Action(
        path="/v1/models/{model}/aliases/{alias}",
        method="DELETE",
        summary="Forget an alias",
        description=_FOR_OPERATORS + "Gives the version that the alias led to.",
        problem=native_problem,
        response=ModelCard,
        statuses=(401, 403, 404, 500, 503),
        act=drop_alias,
    ),
)
