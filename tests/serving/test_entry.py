"""What the settings say of the entrance: TLS on both doors, and who is let in without a key."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm

from xlmr.errors import DataError, SettingsError
from xlmr.serving.entry import open_doorkeeper, read_tls
from xlmr.serving.keys import ROLES, new_key, write_entries
from xlmr.settings import Settings


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[str, str]:
    """A certificate for this machine, signed by itself, and its key."""
    root = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    address = ipaddress.ip_address("127.0.0.1")
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (root / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (root / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(root / "cert.pem"), str(root / "key.pem")


def test_https_is_served_and_plain_http_is_not(house_of, pair):
    cert, key = pair
    with house_of("router", tls_cert=cert, tls_key=key) as house:
        assert house.address.startswith("https://")
        assert house.classify(input="hello").status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(house.address.replace("https", "http") + "/livez")
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(house.address + "/livez")
        old = ssl.create_default_context(cafile=cert)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert httpx.get(house.address + "/livez", verify=old).status_code == 200


def test_grpc_is_served_with_the_same_certificate(house_of, pair):
    grpc = pytest.importorskip("grpc")
    cert, key = pair
    with house_of("router", tls_cert=cert, tls_key=key, grpc_port=0) as house:
        with open(cert, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        with grpc.secure_channel(house.grpc_address, credentials) as channel:
            grpc.channel_ready_future(channel).result(timeout=20)
        plain = grpc.insecure_channel(house.grpc_address)
        with plain as channel, pytest.raises(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(timeout=0.5)


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("cert", "", "needs a certificate and its key"),
        ("", "key", "needs a certificate and its key"),
        ("key", "cert", "PEM"),
        ("cert", "nowhere", "No such file"),
    ],
)
def test_what_is_no_certificate_is_one_clear_error(pair, cert, key, said):
    places = {"cert": pair[0], "key": pair[1], "nowhere": "/nowhere.pem", "": ""}
    with pytest.raises(SettingsError, match=said) as refusal:
        read_tls(Settings(tls_cert=places[cert], tls_key=places[key]))
    assert refusal.value.hint


def anonymous(**knobs) -> frozenset[str]:
    return asyncio.run(open_doorkeeper(Settings(**knobs)).caller("", None)).roles


def test_without_keys_strangers_may_not_operate_the_server():
    assert anonymous(host="127.0.0.1") == anonymous(host="::1") == ROLES
    assert anonymous(host="localhost") == ROLES
    for host in ("0.0.0.0", "::", "10.0.0.7", "example.org"):
        assert anonymous(host=host) == {"predict", "feedback"}
        assert anonymous(host=host, anonymous_roles="predict, operate") == {"predict", "operate"}
    with pytest.raises(SettingsError, match="root"):
        anonymous(anonymous_roles="predict,root")


def test_settings_that_would_let_in_anybody_are_refused(tmp_path):
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": []}))
    for knobs in ({}, {"jwt_issuer": "https://a"}, {"jwt_audience": "b"}):
        with pytest.raises(SettingsError, match="any issuer"):
            open_doorkeeper(Settings(jwks=str(keys), **knobs))
    with pytest.raises(SettingsError, match="nowhere"):
        open_doorkeeper(Settings(keys_file=str(tmp_path / "nowhere")))
    broken = tmp_path / "keys.jsonl"
    broken.write_text("xlmr_0123456789abcdef_secret\n")
    with pytest.raises(DataError, match="line 1") as refusal:
        open_doorkeeper(Settings(keys_file=str(broken)))
    assert "secret" not in str(refusal.value)


def test_tokens_open_the_server_beside_keys(house_of, tmp_path):
    private = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(ECAlgorithm.to_jwk(private.public_key())) | {"kid": "one"}
    jwks, keys = tmp_path / "jwks.json", tmp_path / "keys.jsonl"
    jwks.write_text(json.dumps({"keys": [public]}))
    key, entry = new_key("shop")
    keys.write_bytes(write_entries([entry]))
    claims = {
        "iss": "https://issuer",
        "aud": "xlmr",
        "sub": "anna",
        "exp": datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1),
        "groups": {"xlmr": ["predict"]},
    }
    signed = {"algorithm": "ES256", "headers": {"kid": "one"}}
    good = jwt.encode(claims, private, **signed)
    other = jwt.encode(claims | {"aud": "else"}, private, **signed)
    knobs = {
        "keys_file": str(keys),
        "jwks": str(jwks),
        "jwt_issuer": "https://issuer",
        "jwt_audience": "xlmr",
        "jwt_roles_claim": "groups.xlmr",
    }
    with house_of("router", **knobs) as house:
        for credential, status in ((good, 200), (key, 200), (other, 401), (good + "A", 401)):
            house.client.headers["authorization"] = f"Bearer {credential}"
            assert house.classify(input="hello").status_code == status
        assert {record.caller for record in house.log.records} >= {"jwt:anna", "shop"}
