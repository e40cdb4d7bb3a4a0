"""Keyless signatures: an identity that an OpenID provider vouched for, in the place of a key.

Whoever signs (`model_signing sign sigstore DIR`, usually in a pipeline) needs Sigstore's servers
for a moment; whoever checks needs none of them, only a root of trust as a file. It is named beside
the trusted keys, in `identities.toml`:

    trust_root = "trusted_root.json"    # `cosign trusted-root create`, or a Sigstore of your own

    [[identity]]
    name = "https://github.com/acme/models/.github/workflows/release.yml@refs/heads/main"
    issuer = "https://token.actions.githubusercontent.com"

What is checked, by the package `sigstore`: that the certificate comes from the root and names one
of these identities, that it was valid when the signature was entered into the public log, and that
it was entered there.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xlmr.errors import MissingExtraError, SettingsError, SignatureError

IDENTITIES_FILE = "identities.toml"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who may sign: an address or a workflow, and the provider that vouches for it."""

    name: str
    issuer: str


@dataclass(frozen=True)
class TrustedIdentities:
    """Identities whose signatures count, and the root of trust that is believed about them."""

    identities: tuple[Identity, ...]
    trust_root: Path
    # Among trusted keys, what this one is called.
    id = "identities"

    def check(self, data: bytes, *, origin: str) -> tuple[str, bytes]:
        """Whose signature it is, and what is signed.

        Raises:
            SignatureError: altered, not in the log, or none of these identities'.
        """
        sigstore = self._sigstore
        try:
            bundle = sigstore.models.Bundle.from_json(data)
            for identity in self.identities:
                policy = sigstore.verify.policy.Identity(
                    identity=identity.name, issuer=identity.issuer
                )
                try:
                    kind, payload = self._verifier.verify_dsse(bundle, policy)
                except sigstore.errors.VerificationError as fault:
                    said: Exception = fault
                    continue
                if kind != PAYLOAD_TYPE:
                    raise ValueError(f"it is on {kind}")
                return identity.name, bytes(payload)
        except (sigstore.errors.Error, ValueError) as fault:
            said = fault
        first = str(said).strip().partition("\n")[0][:200]
        raise SignatureError(
            f"{origin}: no keyless signature of a trusted identity: {first}",
            hint=f"trusted are {', '.join(identity.name for identity in self.identities)}",
        )

    @cached_property
    def _sigstore(self) -> Any:
        return _import_sigstore()

    @cached_property
    def _verifier(self) -> Any:
        sigstore = self._sigstore
        try:
            root = sigstore.models.TrustedRoot.from_file(str(self.trust_root))
            return sigstore.verify.Verifier(trusted_root=root)
        except OSError as fault:
            raise SettingsError(f"{self.trust_root}: {fault.strerror}") from None
        except (sigstore.errors.Error, ValueError) as fault:
            said = str(fault).partition("\n")[0][:200]
            raise SettingsError(f"{self.trust_root}: no root of trust: {said}") from None


def read_identities(directory: Path) -> TrustedIdentities | None:
    """What `identities.toml` in a directory says; None where there is none.

    Raises:
        SettingsError: it cannot be understood.
        MissingExtraError: it is there, and what checks such signatures is not installed.
    """
    path = directory / IDENTITIES_FILE
    if not path.exists():
        return None
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        named = tuple(Identity(**each) for each in told["identity"])
        root = directory / told["trust_root"]
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    except (ValueError, KeyError, TypeError):
        named = ()
    if not named or not all(isinstance(s, str) and s for i in named for s in (i.name, i.issuer)):
        raise SettingsError(
            f"{path}: expected `trust_root`, and an [[identity]] with `name` and `issuer`"
        )
    _import_sigstore()
    return TrustedIdentities(named, root)


def _import_sigstore() -> Any:
    try:
        import sigstore.errors
        import sigstore.models
        import sigstore.verify.policy
    except ImportError:
        raise MissingExtraError("sigstore", extra="keyless") from None
    return sigstore
