"""Signatures of models in the OpenSSF Model Signing format, with an elliptic-curve key pair.

`model.sig` is a Sigstore bundle: a DSSE envelope around an in-toto statement that names every file
with its SHA-256. The format's own tool reads and writes the same (`model_signing verify
elliptic-key DIR --signature DIR/model.sig --public-key KEY`); here it takes the package
`cryptography` alone, so that a server that checks signatures carries nothing more.

Keyless signatures (`model_signing sign sigstore DIR`, with an identity in the place of a key) are
the same file with a certificate in it; `keyless` checks those.

The signature is on content: which version of which name it is, the catalogue and its journal say.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlmr.errors import MissingExtraError, SettingsError, SignatureError
from xlmr.registry.digest import FileEntry
from xlmr.registry.keyless import PAYLOAD_TYPE, TrustedIdentities, read_identities
from xlmr.registry.manifest import (
    BESIDE,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    Manifest,
    different_files,
    hash_files,
    read_manifest,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key whose signatures count. `id` is the SHA-256 of its PEM form, hex."""

    id: str
    key: EllipticCurvePublicKey


# Whose signatures count.
Trusted = TrustedKey | TrustedIdentities


class Signer:
    """Signs with a private key in PEM.

    Raises:
        SettingsError: the file is no private key on one of the curves P-256, P-384 and P-521.
    """

    def __init__(self, path: Path, *, password: str = "") -> None:
        _need_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(path.read_bytes(), password.encode() or None)
        except OSError as fault:
            raise SettingsError(f"{path}: {fault.strerror}") from None
        except (ValueError, TypeError) as fault:
            raise SettingsError(f"{path}: not a private key in PEM, or locked: {fault}") from None
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
            raise SettingsError(f"{path}: not a key on a curve of {', '.join(_CURVES)}")
        self._key: EllipticCurvePrivateKey = key
        self.key_id = _id_of(key.public_key())

    def sign(self, files: Iterable[FileEntry], *, name: str) -> bytes:
        """The content of `model.sig`."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

        payload = json.dumps(_statement(files, name), indent=2).encode()
        signed = self._key.sign(_before_signing(payload), ECDSA(_hash_for(self._key.public_key())))
        bundle = {
            "mediaType": _BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": self.key_id}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signed).decode(), "keyid": ""}],
            },
        }
        return json.dumps(bundle).encode()


def new_key_pair() -> tuple[bytes, bytes]:
    """A private key on P-256 and its public one, in PEM."""
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return private, _pem_of(key.public_key())


def read_trusted(path: str) -> tuple[Trusted, ...]:
    """The public keys of a PEM file, or of all `*.pem` of a directory; none for an empty path.

    A directory may also hold `identities.toml`: see `read_identities`.

    Raises:
        SettingsError: there is none, or something else; a private key is refused too.
    """
    if not path:
        return ()
    place = Path(path).expanduser()
    files = sorted(place.glob("*.pem")) if place.is_dir() else [place]
    trusted: list[Trusted] = [key for file in files for key in _public_keys(file)]
    identities = read_identities(place) if place.is_dir() else None
    trusted += [identities] if identities is not None else []
    if not trusted:
        raise SettingsError(f"{path}: holds no public key in PEM")
    return tuple(trusted)


def check_signature(
    data: bytes | None, trusted: Sequence[Trusted], *, origin: str
) -> tuple[str, Mapping[str, str]]:
    """Whose signature it is, and the SHA-256 of each file it is on.

    Raises:
        SignatureError: there is none, it is not on what it holds, or no trusted key made it.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    if data is None:
        raise not_signed(origin)
    hint, payload, signature = _unpacked(data, origin)
    for identities in (each for each in trusted if isinstance(each, TrustedIdentities)):
        if not hint:
            who, payload = identities.check(data, origin=origin)
            return who, _signed_files(payload, origin)
    keys = (each for each in trusted if isinstance(each, TrustedKey))
    key = next((key for key in keys if key.id == hint), None)
    if key is None:
        raise SignatureError(
            f"{origin}: signed with key {hint[:16] or '?'}, which is not trusted",
            hint=f"trusted are {', '.join(key.id[:16] for key in trusted) or 'none'}",
        )
    try:
        key.key.verify(signature, _before_signing(payload), ECDSA(_hash_for(key.key)))
    except InvalidSignature:
        raise SignatureError(f"{origin}: the signature was altered, or is another key's") from None
    return key.id, _signed_files(payload, origin)


def not_signed(origin: str) -> SignatureError:
    """What is said of something without a signature."""
    return SignatureError(
        f"{origin}: not signed", hint="`xlmr registry push --sign-key KEY` signs a version"
    )


def check_covers(manifest: Manifest, data: bytes) -> None:
    """That a signature is on exactly the files of a manifest.

    Whether the key it names made it, and whether anybody trusts that key, is for `check_signed`.

    Raises:
        SignatureError: it is on other files, or no signature.
    """
    _, payload, _ = _unpacked(data, SIGNATURE_FILE)
    _compare(_signed_files(payload, SIGNATURE_FILE), manifest.files, SIGNATURE_FILE)


def check_signed(
    manifest: Manifest, data: bytes | None, trusted: Sequence[Trusted], *, origin: str
) -> str:
    """That exactly the files of a manifest are signed; the id of the key.

    Raises:
        SignatureError: see `check_signature`; or other files are signed, which are named.
    """
    key_id, signed = check_signature(data, trusted, origin=origin)
    _compare(signed, manifest.files, origin)
    return key_id


def verify_directory(
    directory: Path, trusted: Sequence[Trusted], *, cache_dir: Path | None = None
) -> Manifest:
    """That a pulled model is what somebody trusted signed: for whoever is about to serve it.

    Args:
        directory: as `xlmr registry pull` leaves it.
        trusted: whose signatures count.
        cache_dir: where file digests are remembered, by size and time of change; None reads every
            file again.

    Raises:
        SignatureError: unsigned, another key, or altered; every file that differs is named.
        RegistryError: its manifest is missing or no manifest.
    """
    manifest = read_manifest(directory)
    path = directory / SIGNATURE_FILE
    data = path.read_bytes() if path.is_file() else None
    _, signed = check_signature(data, trusted, origin=str(directory))
    _compare(signed, hash_files(directory, cache_dir=cache_dir), str(directory))
    _compare(signed, manifest.files, str(path.with_name(MANIFEST_FILE)))
    return manifest


def _compare(signed: Mapping[str, str], files: Iterable[FileEntry], origin: str) -> None:
    promised = {path: FileEntry(path, 0, sha256) for path, sha256 in signed.items()}
    wrong = different_files(promised, {entry.path: entry for entry in files})
    if wrong:
        raise SignatureError(f"{origin}: not what was signed: {', '.join(wrong)}")


def _statement(files: Iterable[FileEntry], name: str) -> dict[str, Any]:
    ordered = sorted(files)
    root = hashlib.sha256(b"".join(bytes.fromhex(entry.sha256) for entry in ordered))
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "resources": [
                {"name": entry.path, "algorithm": "sha256", "digest": entry.sha256}
                for entry in ordered
            ],
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(BESIDE),
            },
        },
    }


def _unpacked(data: bytes, origin: str) -> tuple[str, bytes, bytes]:
    """The key's hint, what is signed, and the signature of a bundle."""
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError("too large")
        bundle = json.loads(data)
        envelope = bundle["dsseEnvelope"]
        material = bundle["verificationMaterial"]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("another payload")
        hint = str(material["publicKey"]["hint"]) if "publicKey" in material else ""
        payload = base64.b64decode(envelope["payload"], validate=True)
        return hint, payload, base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise SignatureError(f"{origin}: {SIGNATURE_FILE} is no signature bundle") from None


def _signed_files(payload: bytes, origin: str) -> dict[str, str]:
    try:
        statement = json.loads(payload)
        predicate = statement["predicate"]
        method = predicate["serialization"]["method"]
        if (statement["predicateType"], method) != (_PREDICATE, "files"):
            raise ValueError("another predicate")
        if any(said["algorithm"] != "sha256" for said in predicate["resources"]):
            raise ValueError("another digest")
        return {str(said["name"]): str(said["digest"]) for said in predicate["resources"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureError(f"{origin}: what is signed is no list of files") from None


def _before_signing(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _public_keys(path: Path) -> list[TrustedKey]:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        blocks = [found[0] for found in _PEM_BLOCK.finditer(path.read_bytes())]
        keys = [load_pem_public_key(block) for block in blocks]
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    except ValueError:
        raise SettingsError(
            f"{path}: not a public key in PEM", hint="the private key stays with whoever signs"
        ) from None
    for key in keys:
        if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
            raise SettingsError(f"{path}: not a key on a curve of {', '.join(_CURVES)}")
    return [TrustedKey(_id_of(key), key) for key in keys if isinstance(key, EllipticCurvePublicKey)]


def _pem_of(key: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    return key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def _id_of(key: EllipticCurvePublicKey) -> str:
    return hashlib.sha256(_pem_of(key)).hexdigest()


def _hash_for(key: EllipticCurvePublicKey) -> Any:
    from cryptography.hazmat.primitives import hashes

    by_size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    return by_size[key.curve.key_size]


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingExtraError("cryptography", extra="registry") from None
