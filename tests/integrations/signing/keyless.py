"""A Sigstore of our own: what it hands to whoever signs without a key, made in this process.

A root and a leaf certificate with an identity, the log of certificates (a timestamp in the leaf),
and the log of signatures (an entry with its promise, its proof and a checkpoint): all that is
needed to check such a signature without a network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

ISSUER = "https://accounts.example"
_ISSUER_OID = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_SCT_OID = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_PAYLOAD = "application/vnd.in-toto+json"
_SHA256 = ec.ECDSA(hashes.SHA256())


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    public = key.public_key()
    return public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(der(key)).digest()


@dataclass
class Sigstore:
    """Its three keys, and the certificate of its root."""

    now: datetime

    def __post_init__(self) -> None:
        self.root, self.certificates, self.log = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(3)
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.root_certificate = (
            self._certificate(name, self.root, days=3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.root.public_key()), critical=False
            )
            .sign(self.root, hashes.SHA256())
        )

    def trusted_root(self) -> dict[str, Any]:
        """What is believed of it, as a client's file."""

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": b64(der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
            public["validFor"] = {"start": self._moment(-3650)}  # type: ignore[assignment]
            return {
                "baseUrl": "https://log.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": public,
                "logId": {"keyId": b64(key_id(key))},
            }

        chain = {"certificates": [{"rawBytes": b64(self._der(self.root_certificate))}]}
        authority = {
            "subject": {"organization": "example", "commonName": "root"},
            "uri": "https://ca.example",
            "certChain": chain,
            "validFor": {"start": self._moment(-3650)},
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "ctlogs": [log(self.certificates)],
            "certificateAuthorities": [authority],
            "timestampAuthorities": [],
        }

    def sign(
        self,
        payload: bytes,
        *,
        identity: str,
        issuer: str = ISSUER,
        entered: timedelta = timedelta(0),
    ) -> bytes:
        """A bundle on a payload, as `model_signing sign sigstore` writes it.

        `entered` is how long after the certificate was made it came into the log.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(key, identity, issuer)
        before = b"DSSEv1 %d %b %d %b" % (
            len(_PAYLOAD),
            _PAYLOAD.encode(),
            len(payload),
            payload,
        )
        signed = b64(key.sign(before, _SHA256))
        pem = leaf.public_bytes(form.Encoding.PEM)
        envelope = {
            "payload": b64(payload),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": signed, "keyid": ""}],
        }
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(rfc8785.dumps(envelope)).hexdigest(),
                },
                "payloadHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(payload).hexdigest(),
                },
                "signatures": [{"signature": signed, "verifier": b64(pem)}],
            },
        }
        material = {
            "certificate": {"rawBytes": b64(self._der(leaf))},
            "tlogEntries": [self._entry(rfc8785.dumps(body), self.now + entered)],
        }
        bundle = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": envelope,
        }
        return json.dumps(bundle).encode()

    def _entry(self, body: bytes, entered: datetime) -> dict[str, Any]:
        """The only line of a log: its hash is the tree's."""
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"log.example - 1\n1\n{b64(root)}\n"
        sealed = key_id(self.log)[:4] + self.log.sign(note.encode(), _SHA256)
        moment = int(entered.timestamp())
        promised = {
            "body": b64(body),
            "integratedTime": moment,
            "logID": key_id(self.log).hex(),
            "logIndex": 0,
        }
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(key_id(self.log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(moment),
            "inclusionPromise": {
                "signedEntryTimestamp": b64(self.log.sign(rfc8785.dumps(promised), _SHA256))
            },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\u2014 log.example {b64(sealed)}\n"},
            },
            "canonicalizedBody": b64(body),
        }

    def _leaf(
        self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str
    ) -> x509.Certificate:
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        names = x509.SubjectAlternativeName([x509.RFC822Name(identity)])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root.public_key())
        builder = (
            self._certificate(x509.Name([]), key, minutes=10)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(names, critical=True)
            .add_extension(authority, critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, issuer.encode()), critical=False)
        )
        bare = builder.sign(self.root, hashes.SHA256()).tbs_certificate_bytes
        stamp = x509.UnrecognizedExtension(_SCT_OID, self._stamp(bare))
        return builder.add_extension(stamp, critical=False).sign(self.root, hashes.SHA256())

    def _stamp(self, bare: bytes) -> bytes:
        """The list with one timestamp of the certificates' log, as TLS and DER want it."""
        moment = int(self.now.timestamp() * 1000)
        entry = key_id(self.root) + len(bare).to_bytes(3, "big") + bare
        signed = struct.pack("!BBQH", 0, 0, moment, 1) + entry + struct.pack("!H", 0)
        signature = self.certificates.sign(signed, _SHA256)
        stamp = struct.pack("!B32sQH", 0, key_id(self.certificates), moment, 0)
        stamp += struct.pack("!BBH", 4, 3, len(signature)) + signature
        listed = struct.pack("!H", len(stamp)) + stamp
        whole = struct.pack("!H", len(listed)) + listed
        assert len(whole) < 256
        length = bytes([len(whole)]) if len(whole) < 128 else bytes([0x81, len(whole)])
        return b"\x04" + length + whole

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        days: int = 0,
        minutes: int = 0,
    ) -> x509.CertificateBuilder:
        root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(days=days, minutes=1))
            .not_valid_after(self.now + timedelta(days=days, minutes=minutes))
        )

    def _moment(self, days: int) -> str:
        return (self.now + timedelta(days=days)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _der(self, certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(form.Encoding.DER)
