"""Tokens are taken from whom we trust, for us, while they last; and no trick with algorithms."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from xlmr.errors import SettingsError, UnauthenticatedError, UnavailableError
from xlmr.serving.web_tokens import KeySet, Trust, WebTokens

TRUST = Trust(issuer="https://issuer", audience="xlmr")
KEYS = {
    "rsa": (rsa.generate_private_key(65537, 2048), "RS256", RSAAlgorithm),
    "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256", ECAlgorithm),
    "ed": (ed25519.Ed25519PrivateKey.generate(), "EdDSA", OKPAlgorithm),
}


def jwks(*names: str) -> bytes:
    keys = []
    for name in names:
        private, _, kind = KEYS[name]
        keys.append(json.loads(kind.to_jwk(private.public_key())) | {"kid": name})
    return json.dumps({"keys": keys}).encode()


def claims(**changed) -> dict:
    now = time.time()
    whole = {
        "iss": "https://issuer",
        "aud": "xlmr",
        "sub": "anna",
        "exp": now + 60,
        "roles": ["predict", "admin"],
    }
    return {name: value for name, value in (whole | changed).items() if value is not None}


def token(name: str = "rsa", *, kid: str | None = None, algorithm: str = "", **changed) -> str:
    private, usual, _ = KEYS[name]
    return jwt.encode(claims(**changed), private, algorithm or usual, headers={"kid": kid or name})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """Where the keys are; counts who reads, and can be down."""

    def __init__(self, *names: str) -> None:
        self.data = jwks(*names)
        self.reads = 0
        self.down = False

    def __call__(self, place: str) -> bytes:
        self.reads += 1
        if self.down:
            raise OSError("no route to host")
        return self.data


@pytest.fixture
def place() -> Place:
    return Place(*KEYS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(place, clock) -> WebTokens:
    return WebTokens(KeySet("https://issuer/keys", read=place, clock=clock), TRUST)


def ask(tokens: WebTokens, credential: str):
    return asyncio.run(tokens.caller(credential))


def refused(tokens: WebTokens, credential: str) -> bool:
    try:
        return ask(tokens, credential) is None
    except UnauthenticatedError:
        return True


@pytest.mark.parametrize("name", KEYS)
def test_each_algorithm_tells_the_caller(tokens, name):
    caller = ask(tokens, token(name))
    assert (caller.name, caller.roles) == ("jwt:anna", {"predict"})


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://other"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["a", "b"]},
        {"aud": None},
        {"exp": time.time() - 60},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1e400},
        {"nbf": time.time() + 600},
        {"sub": None},
    ],
    ids=lambda changed: next(iter(changed)) + "-" + type(next(iter(changed.values()))).__name__,
)
def test_claims_that_are_not_for_us_are_refused(tokens, changed):
    assert refused(tokens, token(**changed))


def test_several_audiences_may_hold_ours(tokens):
    assert ask(tokens, token(aud=["other", "xlmr"]))


def part(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_without_a_signature_is_refused(tokens):
    for algorithm in ("none", "None", "NONE", ""):
        header = {"alg": algorithm, "typ": "JWT", "kid": "rsa"}
        assert refused(tokens, f"{part(header)}.{part(claims())}.")
        assert refused(tokens, f"{part(header)}.{part(claims())}.AAAA")


@pytest.mark.parametrize("name", KEYS)
def test_a_public_key_is_never_taken_for_a_shared_secret(tokens, name):
    public = KEYS[name][0].public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': name})}.{part(claims())}"
    for secret in (pem, pem.strip(), b""):
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        assert refused(tokens, f"{signed}.{signature}")


def test_a_key_of_one_kind_never_checks_a_token_of_another(tokens):
    assert refused(tokens, token("ec", kid="rsa"))
    assert refused(tokens, token("rsa", kid="ec"))
    assert refused(tokens, token("rsa", algorithm="RS512"))
    assert refused(tokens, token("rsa", algorithm="PS256"))


def test_a_changed_token_is_refused(tokens):
    good = token()
    head, body, signature = good.split(".")
    assert ask(tokens, good)
    assert refused(tokens, f"{head}.{part(claims(sub='eve'))}.{signature}")
    assert refused(tokens, f"{head}.{body}.{signature[:-4]}AAAA")
    assert refused(tokens, part({}) + "..")


@pytest.mark.parametrize(
    "credential", ["", "a.b", "a.b.c", "..", "é.é.é", "xlmr_0_0", "." * 100_000, "bnVsbA.."]
)
def test_what_is_no_token_is_left_to_others(tokens, credential):
    assert ask(tokens, credential) is None


def test_an_unknown_key_id_has_the_set_read_again_but_not_all_the_time(clock):
    place = Place("rsa")
    tokens = WebTokens(KeySet("https://issuer/keys", read=place, clock=clock), TRUST)
    assert ask(tokens, token("rsa"))
    place.data = jwks("rsa", "ec")
    for _ in range(20):
        assert refused(tokens, token("ec"))
    assert place.reads == 1
    clock.now += 10
    assert ask(tokens, token("ec"))
    for _ in range(20):
        assert refused(tokens, token("ed"))
    assert place.reads == 2


def test_while_the_keys_cannot_be_read_the_old_ones_stay(place, tokens, clock):
    assert ask(tokens, token("rsa"))
    place.down = True
    clock.now += 10_000
    assert ask(tokens, token("ec"))
    clock.now += 10
    assert refused(tokens, token("rsa", kid="new"))
    assert ask(tokens, token("rsa"))


def test_without_any_keys_nobody_is_let_in_and_told_to_come_back(place, tokens, clock):
    place.down = True
    with pytest.raises(UnavailableError) as refusal:
        ask(tokens, token())
    assert refusal.value.retry_after_s == 10
    place.down = False
    clock.now += 10
    assert ask(tokens, token())


def test_a_key_that_is_taken_back_opens_nothing_after_a_while(place, tokens, clock):
    good = token("rsa")
    assert ask(tokens, good)
    place.data = jwks("ec")
    clock.now += 601
    deadline = time.monotonic() + 10
    while not refused(tokens, good):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert place.reads == 2


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"keys": 3}', b'{"keys": []}', b'{"keys": [{"kty": "RSA", "n": "?"}]}']
)
def test_a_set_that_cannot_be_read_changes_nothing(place, tokens, clock, data):
    assert ask(tokens, token("rsa"))
    place.data = data
    clock.now += 10
    assert refused(tokens, token("rsa", kid="new"))
    assert ask(tokens, token("rsa"))


@pytest.mark.parametrize(
    ("changed", "path", "roles"),
    [
        ({"roles": "predict operate"}, "roles", {"predict", "operate"}),
        ({"realm": {"access": ["feedback"]}}, "realm.access", {"feedback"}),
        ({"roles": None}, "roles", set()),
        ({"roles": {"predict": 1}}, "roles", set()),
        ({"roles": [3, None, "predict"]}, "roles", {"predict"}),
    ],
)
def test_roles_are_found_where_the_settings_say(place, clock, changed, path, roles):
    trust = Trust(issuer="https://issuer", audience="xlmr", roles_claim=path)
    tokens = WebTokens(KeySet("https://issuer/keys", read=place, clock=clock), trust)
    assert ask(tokens, token(**changed)).roles == roles


def test_a_name_that_is_no_plain_word_reaches_no_log(tokens):
    name = ask(tokens, token(sub="Anna Müller\n<private>")).name
    assert "Müller" not in name
    assert len(name) == 20


def test_a_token_is_checked_once_and_forgotten_when_it_is_over(place, clock):
    today = Clock()
    today.now = time.time()
    tokens = WebTokens(KeySet("https://issuer/keys", read=place, clock=clock), TRUST, now=today)
    good = token(exp=time.time() - 5)
    assert ask(tokens, good)
    checked = dict(tokens._checked)
    assert ask(tokens, good)
    assert len(checked) == 1
    today.now += 1
    with pytest.raises(UnauthenticatedError):
        ask(tokens, token(exp=time.time() - 30))


def test_keys_come_from_a_file(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks("ec"))
    assert ask(WebTokens(KeySet(str(path)), TRUST), token("ec"))


def test_keys_come_over_https_only_or_from_this_machine():
    with pytest.raises(SettingsError, match="https"):
        KeySet("http://issuer.example/keys")
    KeySet("https://issuer.example/keys")


@pytest.fixture
def web():
    """A web server: /keys gives them, /away leads there, /large never ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/away":
                self.send_response(302)
                self.send_header("location", "/keys")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(jwks("rsa") + b" " * (2_000_000 if self.path == "/large" else 0))

        def log_message(self, *arguments) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_keys_come_from_a_url_that_leads_nowhere_else(web):
    assert ask(WebTokens(KeySet(f"{web}/keys"), TRUST), token())
    for path in ("/away", "/large"):
        with pytest.raises(UnavailableError):
            ask(WebTokens(KeySet(web + path), TRUST), token())
