"""Keys, tokens and passwords: by the shape their makers gave them, or by the word before them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from xlmr.feedback.redaction.finding import SECRET, Finding

_SHAPES = re.compile(
    r"""(?<![A-Za-z0-9_])(?:
    (?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])          # Amazon
    |gh[pousr]_[A-Za-z0-9]{36,255}+|github_pat_[A-Za-z0-9_]{22,255}+
    |glpat-[A-Za-z0-9_-]{20,255}+
    |xox[abeprs]-[A-Za-z0-9-]{10,255}+                          # Slack
    |(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,255}+            # Stripe
    |AIza[A-Za-z0-9_-]{35}                                      # Google
    |ya29\.[A-Za-z0-9_-]{20,1024}+
    |sk-[A-Za-z0-9_-]{20,255}+                                  # OpenAI, Anthropic
    |hf_[A-Za-z0-9]{30,255}+|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,1024}+
    |SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}             # SendGrid
    |dop_v1_[a-f0-9]{64}|shpat_[a-fA-F0-9]{32}|(?:AC|SK)[a-f0-9]{32}
    |eyJ[A-Za-z0-9_-]{8,4096}+\.[A-Za-z0-9_-]{8,4096}+(?:\.[A-Za-z0-9_-]{0,4096}+)?  # JWT
    )""",
    re.VERBOSE,
)
_PEM = re.compile(r"-----BEGIN ([A-Z ]{0,20}PRIVATE KEY)-----")
_BEARER = re.compile(r"(?<![a-z])(?:bearer|basic) ([A-Za-z0-9._~+/-]{12,}+=*)", re.IGNORECASE)
# A word for a password, then a sign or a verb that hands it over.
_SPOKEN = re.compile(
    # In Arabic and Hebrew the article, "and", "in" and "for" are part of the word.
    r"""(?<![^\W_])[והבלوب]{0,2}(?:
      pass(?:word|wort|code|phrase|wd)?|pwd|pin(?:[ -]?code)?|secret|api[ _-]?key|access[ _-]?token
      |token|kennwort|mot[ ]de[ ]passe|mdp|contraseña|clave|senha|palavra-passe|wachtwoord|hasło
      |heslo|jelszó|parol[aeăė]?|lösenord|adgangskode|salasana|κωδικός|пароль|парола|şifre|сырсөз
      |كلمة[ ](?:المرور|السر)|رمز[ ]عبور|סיסמה|סיסמא|पासवर्ड|পাসওয়ার্ড|கடவுச்சொல்|รหัสผ่าน
      |mật[ ]khẩu|kata[ ]sandi|sandi|nenosiri|密码|密碼|パスワード|비밀번호|암호
    )
    (?:[ ]?[:=][ ]?
      |(?:は|는|은|가|是|为|為)[ :]?
      |[ ]+(?:is|ist|lautet|est|es|é|è|er|är|jest|je|on|это|є|هي|هو|היא|הוא|है|คือ|là|adalah|ni
        |είναι)[ :]+
    )
    ["'«“„「]?(?P<value>[^\s"'»”“」，。、,;]{4,128}+)""",
    re.VERBOSE | re.IGNORECASE,
)
_OPAQUE = re.compile(r"(?<![A-Za-z0-9+/_=.-])[A-Za-z0-9+/_-]{32,}+={0,2}(?![A-Za-z0-9.@])")
# Of random base64 of 32 characters more than 99 in 100 are above; words with digits are not.
_LEAST_BITS = 3.9


def find_credentials(text: str) -> Iterator[Finding]:
    """Keys and tokens of known makers, private keys, what a word calls a password, and strings that
    look drawn at random (mixed case and digits). Digests and UUIDs are not secrets.
    """
    for found in _SHAPES.finditer(text):
        yield Finding(SECRET, found.start(), found.end(), True)
    yield from _private_keys(text)
    for found in _BEARER.finditer(text):
        yield Finding(SECRET, found.start(1), found.end(1), True)
    for found in _SPOKEN.finditer(text):
        value = found["value"].rstrip(".!?)।؟")
        if len(value) >= 4 and _is_password(value):
            yield Finding(SECRET, found.start("value"), found.start("value") + len(value), True)
    for found in _OPAQUE.finditer(text):
        if _is_random(found[0]):
            yield Finding(SECRET, found.start(), found.end())


def _private_keys(text: str) -> Iterator[Finding]:
    place = 0
    while (found := _PEM.search(text, place)) is not None:
        end = f"-----END {found[1]}-----"
        last = text.find(end, found.end())
        # Cut off somewhere: all that follows may be of the key.
        place = len(text) if last < 0 else last + len(end)
        yield Finding(SECRET, found.start(), place, True)


def _is_password(value: str) -> bool:
    """Whether it is no plain word: "your password is wrong"."""
    return not value.isalpha() or (value != value.lower() and value != value.capitalize())


def _is_random(said: str) -> bool:
    sample = said[:256]
    kinds = (str.isupper, str.islower, str.isdigit)
    if not all(any(is_kind(sign) for sign in sample) for is_kind in kinds):
        return False
    counts = Counter(sample).values()
    bits = -sum(n / len(sample) * math.log2(n / len(sample)) for n in counts)
    return bits >= _LEAST_BITS
