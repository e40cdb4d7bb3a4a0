"""Who asks, and may they: a credential becomes a caller, and the caller's roles decide.

Where neither keys nor tokens are configured everybody is the anonymous caller.
"""

from __future__ import annotations

from typing import Protocol

from xlmr.errors import ForbiddenError, UnauthenticatedError
from xlmr.types import Caller

ANONYMOUS = Caller()


class Credentials(Protocol):
    """One way to tell a caller by what they show."""

    async def caller(self, credential: str) -> Caller | None:
        """The caller, or None where this is no credential of this kind.

        Raises:
            UnauthenticatedError: it is of this kind, and wrong or expired.
            UnavailableError: it cannot be checked just now.
        """


class Doorkeeper:
    """Asks each kind of credential in turn. `anonymous` is who asks where there is none."""

    def __init__(self, *kinds: Credentials, anonymous: Caller = ANONYMOUS) -> None:
        self._kinds = kinds
        self._anonymous = anonymous

    async def caller(self, credential: str, role: str | None) -> Caller:
        """Who shows the credential, if they may do what needs the role; None needs none.

        Raises:
            UnauthenticatedError: no credential, or a wrong one.
            ForbiddenError: their roles do not hold it.
            UnavailableError: the credential cannot be checked just now.
        """
        if role is None or not self._kinds:
            caller = self._anonymous
        else:
            caller = await self._known(credential)
        if role is not None and role not in caller.roles:
            raise ForbiddenError(
                f"this needs the role {role}", hint="ask with a key that has this role"
            )
        return caller

    async def _known(self, credential: str) -> Caller:
        if not credential:
            raise UnauthenticatedError(
                "no key was given", hint="send authorization: Bearer KEY or x-api-key: KEY"
            )
        for kind in self._kinds:
            caller = await kind.caller(credential)
            if caller is not None:
                return caller
        raise UnauthenticatedError("the key is not known", hint="it may be revoked or mistyped")
