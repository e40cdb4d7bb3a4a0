"""E-mail addresses, IP addresses, and URLs that hold a secret."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from xlmr.feedback.redaction.finding import EMAIL, IP, URL, Finding
from xlmr.feedback.redaction.words import SECRET_NAMES, says_version

# Scripts that put no space between words: an address in Latin letters ends where they begin.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
# Letters and digits of the others; vowel signs of India are no `\w`.
_SPACED = rf"(?:[^\W{_UNSPACED}]|[\u0300-\u036f\u0900-\u0963\u0966-\u0dff])"
_LOCAL = rf"(?:{_SPACED}|[.+%&'!~-])"
_LABEL = rf"(?:(?:{_SPACED}|-)++|[{_UNSPACED}-]++)"
# Possessive throughout, and each run is entered at its beginning alone: linear.
_EMAIL = re.compile(
    rf"(?:(?<!{_SPACED})(?<![.+%&'!~-]){_LOCAL}++|(?<![{_UNSPACED}])[{_UNSPACED}]++)"
    r"(?:@| ?[(\[] ?(?:at|@|arroba) ?[)\]] ?)"
    rf"{_LABEL}(?:(?:\.| ?[(\[] ?(?:dot|punkt|point|punto|ponto|\.) ?[)\]] ?){_LABEL})++",
    re.IGNORECASE,
)
_TOP = re.compile(rf"(?:xn--[a-z0-9-]+|(?:(?!\d)(?:{_SPACED}|[{_UNSPACED}])){{2,}})\Z", re.I)
_IPV4 = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d]|\.\d)"
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f:]{3,}+", re.I)
_URL = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s<>\"'`|\\^{}\u3001\u3002\u300c\u300d]++", re.I
)
_USER = re.compile(r"[a-z0-9+.-]+://[^/?#@]*:[^/?#]*@", re.I)
_PARAMETER = re.compile(r"[?&;#]([^=&;#?]{1,64})=([^&;#]{4,})")
# A long piece of a path in which letters and digits are mixed: whoever has it is let in.
_OPAQUE = re.compile(r"/(?=[a-z_-]*\d)(?=[\d_-]*[a-z])[A-Za-z0-9_-]{24,}+(?![\w.])", re.I)
_UUID = re.compile(r"/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.I)
_HARMLESS = frozenset(("0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1"))


def find_emails(text: str) -> Iterator[Finding]:
    """Addresses, also those in other scripts and those written `name (at) host (dot) org`."""
    for found in _EMAIL.finditer(text):
        whole = found[0].rstrip(".-")
        top = re.split(r"[.)\]] ?", whole)[-1]
        start = found.start() + len(found[0]) - len(found[0].lstrip(".'!&~-"))
        if _TOP.match(top) and start < found.start() + len(whole):
            yield Finding(EMAIL, start, found.start() + len(whole))


def find_ips(text: str) -> Iterator[Finding]:
    """IPv4 and IPv6 addresses, but for those every machine has."""
    for found in _IPV4.finditer(text):
        if found[0] not in _HARMLESS and not says_version(text, found.start()):
            yield Finding(IP, found.start(), found.end())
    for found in _IPV6.finditer(text):
        said = found[0]
        # `a::b` in a program is none; a time of day has one or two colons.
        if len(said) < 3 or len(said) > 45 or said.count(":") < 2 or not re.search(r"\d", said):
            continue
        said = said if said.endswith("::") else said.rstrip(":")
        following = text[found.start() + len(said) : found.start() + len(said) + 1]
        if said not in _HARMLESS and _is_ipv6(said) and not following.isalnum():
            yield Finding(IP, found.start(), found.start() + len(said))


def find_urls(text: str) -> Iterator[Finding]:
    """URLs with a password, a token, a signature, or an opaque piece that lets in."""
    for found in _URL.finditer(text):
        url = found[0].rstrip(".,;:!?)]}\u060c\u061f\u0964")
        if _has_secret(url):
            # What stands in it is part of it, whatever a word there says.
            yield Finding(URL, found.start(), found.start() + len(url), True)


def _has_secret(url: str) -> bool:
    if _USER.match(url):
        return True
    for name, value in _PARAMETER.findall(url):
        if name.lower().replace("-", "_") in SECRET_NAMES and value:
            return True
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    return any(not _UUID.match(found[0]) for found in _OPAQUE.finditer(path))


def _is_ipv6(said: str) -> bool:
    try:
        ipaddress.IPv6Address(said)
    except ValueError:
        return False
    return True
