"""Callers' tokens (JWT), signed by somebody we trust: whose keys stand in a JWKS file or at a URL.

Which algorithm checks a signature is decided by the key, never by the token: a token without a
signature, or one that takes a public key for a shared secret, is refused before anything is
computed. PyJWT does the cryptography.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xlmr.errors import (
    DataError,
    MissingExtraError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
)
from xlmr.serving.keys import ROLES
from xlmr.types import Caller

logger = logging.getLogger("xlmr.serving.keys")

# Key type and curve, as JWKS has them, to the one algorithm such keys are used with.
_ALGORITHMS: Mapping[tuple[Any, Any], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
_LEEWAY_SECONDS = 10
# An unknown key id has the set fetched again, but not more often than this.
_FLOOR_SECONDS = 10.0
# A set is fetched again after so long in any case: a key that was taken back must be forgotten.
_FRESH_SECONDS = 600.0
_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 1024 * 1024
_MOST_TOKEN_BYTES = 8192
# Tokens whose signature was checked already.
_REMEMBERED = 4096
_SANE = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which tokens are taken.

    Attributes:
        issuer: must be their `iss`.
        audience: must be in their `aud`.
        roles_claim: where they name roles, a list or words; dots lead into objects.
    """

    issuer: str
    audience: str
    roles_claim: str = "roles"


class KeySet:
    """The keys at a file or URL, as they were when they were last read. Used by several threads.

    Args:
        place: a path, or an https URL; http only on the machine itself.
        read: gives the JSON at the place.
        clock: seconds, steadily rising.
    """

    def __init__(
        self,
        place: str,
        *,
        read: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self.generation = 0
        self._read = (_reader(place)) if read is None else read
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, Any] = {}
        self._tried = float("-inf")
        self._fresh = float("-inf")

    def known(self, key_id: str) -> Any:
        """The key of that id, None if it must be sought."""
        return self._keys.get(key_id)

    def stay_fresh(self) -> None:
        """Has old keys read anew; meanwhile they are used, and nobody waits."""
        now = self._clock()
        old = now - self._fresh > _FRESH_SECONDS
        if self._keys and old and now - self._tried >= _FLOOR_SECONDS:
            self._tried = now
            threading.Thread(target=self._refresh, name="xlmr-jwks", daemon=True).start()

    def find(self, key_id: str) -> Any:
        """The key of that id, read anew where that may help; None if there is none.

        Raises:
            UnavailableError: there are no keys, and they cannot be read just now.
        """
        with self._lock:
            key = self.known(key_id)
            if key is None and self._clock() - self._tried >= _FLOOR_SECONDS:
                self._refresh()
                key = self.known(key_id)
            if key is None and not self._keys:
                raise UnavailableError(
                    "callers' tokens cannot be checked just now", retry_after_s=_FLOOR_SECONDS
                )
            return key

    def _refresh(self) -> None:
        self._tried = self._clock()
        try:
            keys = _keys_of(self._read(self.place))
        except (OSError, DataError) as fault:
            logger.error("keys: %s cannot be read, the old keys stay: %s", self.place, fault)
            return
        self._keys = keys
        self._fresh = self._clock()
        self.generation += 1
        logger.info("keys: %d of %s are in use", len(keys), self.place)


class WebTokens:
    """Tells callers by their tokens.

    Raises:
        MissingExtraError: PyJWT is not installed.
    """

    def __init__(self, keys: KeySet, trust: Trust, *, now: Callable[[], float] = time.time) -> None:
        self._jwt = _pyjwt()
        self._keys = keys
        self._trust = trust
        self._now = now
        self._checked: OrderedDict[bytes, tuple[int, float, Caller]] = OrderedDict()

    async def caller(self, credential: str) -> Caller | None:
        """Whose token this is; None where it has not the shape of one.

        Raises:
            UnauthenticatedError: it is not signed by a key we trust, or not meant for us, or over.
            UnavailableError: the keys cannot be read just now.
        """
        if credential.count(".") != 2 or len(credential) > _MOST_TOKEN_BYTES:
            return None
        self._keys.stay_fresh()
        digest = hashlib.blake2b(credential.encode("latin-1"), digest_size=16).digest()
        known = self._checked.get(digest)
        if known is not None and known[0] == self._keys.generation and self._now() < known[1]:
            return known[2]
        header = self._header(credential)
        if header is None:
            return None
        key_id = str(header.get("kid", ""))
        key = self._keys.known(key_id) or await asyncio.to_thread(self._keys.find, key_id)
        if key is None:
            raise UnauthenticatedError("the token is signed by nobody we know")
        claims = self._claims(credential, header, key)
        caller = Caller(_name(claims), _roles(claims, self._trust.roles_claim))
        self._remember(digest, claims, caller)
        return caller

    def _header(self, credential: str) -> Mapping[str, Any] | None:
        try:
            header: Mapping[str, Any] = self._jwt.get_unverified_header(credential)
        except self._jwt.PyJWTError:
            return None
        return header

    def _claims(self, credential: str, header: Mapping[str, Any], key: Any) -> Mapping[str, Any]:
        if header.get("alg") != key.algorithm_name:
            raise UnauthenticatedError("the token names another algorithm than its key")
        try:
            claims: Mapping[str, Any] = self._jwt.decode(
                credential,
                key.key,
                algorithms=[key.algorithm_name],
                issuer=self._trust.issuer,
                audience=self._trust.audience,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except self._jwt.ExpiredSignatureError:
            raise UnauthenticatedError("the token has expired", hint="get a new one") from None
        except (self._jwt.PyJWTError, OverflowError) as fault:
            # Its words may quote claims; its type says enough.
            raise UnauthenticatedError(f"the token is not valid ({type(fault).__name__})") from None
        return claims

    def _remember(self, digest: bytes, claims: Mapping[str, Any], caller: Caller) -> None:
        self._checked[digest] = (self._keys.generation, float(claims["exp"]), caller)
        while len(self._checked) > _REMEMBERED:
            self._checked.popitem(last=False)


def _pyjwt() -> Any:
    try:
        import cryptography as cryptography
        import jwt
    except ImportError:
        raise MissingExtraError("PyJWT[crypto]", extra="jwt") from None
    return jwt


def _keys_of(data: bytes) -> dict[str, Any]:
    """The keys of a set that we use, by id.

    Raises:
        DataError: it is no set of keys.
    """
    try:
        listed = json.loads(data)["keys"]
        described = [key for key in listed if isinstance(key, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError("not a JSON Web Key Set") from None
    jwt, keys = _pyjwt(), {}
    for key in described:
        algorithm = _ALGORITHMS.get((key.get("kty"), key.get("crv")))
        if algorithm is None or key.get("use", "sig") != "sig":
            continue
        if key.get("alg", algorithm) != algorithm:
            continue
        try:
            keys[str(key.get("kid", ""))] = jwt.PyJWK(key, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as fault:
            raise DataError(f"a key of the set cannot be read ({type(fault).__name__})") from None
    if not keys:
        raise DataError("no key of the set is for RS256, ES256 or EdDSA signatures")
    return keys


def _name(claims: Mapping[str, Any]) -> str:
    """What logs and quotas call the caller: as the token does, where that is short and plain."""
    subject = str(claims["sub"])
    if _SANE.fullmatch(subject):
        return f"jwt:{subject}"
    return "jwt:" + hashlib.blake2b(subject.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _roles(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Those of our roles that the token names."""
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list):
        return frozenset()
    return ROLES & {word for word in value if isinstance(word, str)}


def _reader(place: str) -> Callable[[str], bytes]:
    """What reads the place.

    Raises:
        SettingsError: it is a URL we would not trust.
    """
    url = urlsplit(place)
    if url.scheme not in ("http", "https"):
        return lambda place: Path(place).read_bytes()
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise SettingsError(f"{place}: keys must come over https")
    return _fetched


def _fetched(url: str) -> bytes:
    """What is at a URL; it leads nowhere else.

    Raises:
        OSError: it cannot be had.
        DataError: it is too large.
    """
    opener = urllib.request.build_opener(_Staying)
    request = urllib.request.Request(url, headers={"accept": "application/json"})
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
        data: bytes = response.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise DataError("the key set is too large")
    return data


class _Staying(urllib.request.HTTPRedirectHandler):
    """Follows nobody: where we are led need not be whom we trust."""

    def redirect_request(self, *arguments: Any) -> None:
        """None says that it is not followed, which is an error then."""
