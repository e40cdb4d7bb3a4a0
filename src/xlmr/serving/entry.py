"""How one comes in, as the settings say: who is known by which credentials, and over TLS or not."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlmr.errors import SettingsError
from xlmr.serving.doorkeeper import Credentials, Doorkeeper
from xlmr.serving.keys import ROLES, Keyring
from xlmr.types import Caller

if TYPE_CHECKING:
    from xlmr.settings import Settings


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate chain and its private key, as PEM files that fit together."""

    cert: Path
    key: Path

    def grpc_credentials(self) -> Any:
        """The same for gRPC."""
        import grpc

        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials([pair])


def open_doorkeeper(settings: Settings) -> Doorkeeper:
    """Reads the keys there are. Where none are configured everybody is anonymous.

    Raises:
        SettingsError: a file is missing, or the settings do not go together.
        DataError: a file is not what it should be.
        MissingExtraError: tokens are to be checked, and PyJWT is not installed.
    """
    kinds: list[Credentials] = []
    if settings.keys_file:
        kinds.append(Keyring(Path(settings.keys_file).expanduser()))
    if settings.jwks:
        from xlmr.serving.web_tokens import KeySet, Trust, WebTokens

        if not settings.jwt_issuer or not settings.jwt_audience:
            raise SettingsError(
                "tokens of any issuer, for any audience, would be taken",
                hint="give --jwt-issuer and --jwt-audience",
            )
        trust = Trust(
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            roles_claim=settings.jwt_roles_claim,
        )
        tokens = WebTokens(KeySet(settings.jwks), trust)
        kinds.append(tokens)
    return Doorkeeper(*kinds, anonymous=Caller(roles=_anonymous_roles(settings)))


def read_tls(settings: Settings) -> Tls | None:
    """Certificate and key; None where none are configured.

    Raises:
        SettingsError: one is missing, or they cannot be used.
    """
    if not settings.tls_cert and not settings.tls_key:
        return None
    if not settings.tls_cert or not settings.tls_key:
        raise SettingsError("TLS needs a certificate and its key", hint="--tls-cert and --tls-key")
    tls = Tls(Path(settings.tls_cert).expanduser(), Path(settings.tls_key).expanduser())
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key, _no_password)
    except OSError as fault:
        # `ssl.SSLError` is one too.
        raise SettingsError(
            f"{tls.cert}, {tls.key}: {fault.strerror or fault}",
            hint="expected a PEM chain and its unencrypted private key",
        ) from fault
    return tls


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal."""
    return ""


def _anonymous_roles(settings: Settings) -> frozenset[str]:
    """Everything for who is on this machine; else nothing that changes the server."""
    given = settings.anonymous_roles
    if given:
        roles = frozenset(word.strip() for word in given.split(","))
        if roles - ROLES:
            raise SettingsError(
                f"XLMR_ANONYMOUS_ROLES={given!r}: expected some of {', '.join(sorted(ROLES))}"
            )
        return roles
    return ROLES if _is_loopback(settings.host) else ROLES - {"operate"}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
