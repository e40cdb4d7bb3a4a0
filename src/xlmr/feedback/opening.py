"""The feedback store, its policy, its redactor and its hashes, as the settings say."""

from __future__ import annotations

from pathlib import Path

from xlmr.errors import SettingsError
from xlmr.feedback.policy import Policy, read_policy
from xlmr.feedback.record import Hasher
from xlmr.feedback.redaction.pseudonyms import Pseudonyms
from xlmr.feedback.redaction.redactor import Redactor, Tagger
from xlmr.feedback.store import Store
from xlmr.settings import Settings


def open_store(settings: Settings) -> Store:
    """The store.

    Raises:
        SettingsError: none is named, or its URL is none of a database.
        FeedbackUnavailableError: it cannot be reached.
    """
    if not settings.feedback:
        raise SettingsError("no feedback store is named", hint="--feedback PATH, or XLMR_FEEDBACK")
    return Store(settings.feedback)


def open_policy(settings: Settings) -> Policy:
    """The policy; without a file, one that keeps no text.

    Raises:
        SettingsError: the file cannot be read, or says what it cannot say.
    """
    if not settings.feedback_policy:
        return Policy()
    return read_policy(Path(settings.feedback_policy).expanduser())


def open_redactor(settings: Settings, policy: Policy, *, tagger: Tagger | None = None) -> Redactor:
    """What redacts as the policy says.

    Raises:
        SettingsError: the policy wants pseudonyms, and no key for them is given.
    """
    pseudonyms = open_pseudonyms(settings) if policy.pseudonyms else None
    return Redactor(kinds=policy.kinds, pseudonyms=pseudonyms, tagger=tagger)


def open_pseudonyms(settings: Settings) -> Pseudonyms:
    """What makes placeholders that can be read again, and reads them.

    Raises:
        SettingsError: no key is given, or it is none.
    """
    return Pseudonyms(_key(settings.pseudonym_key, "XLMR_PSEUDONYM_KEY"))


def open_hasher(settings: Settings) -> Hasher:
    """What hashes texts and people.

    Raises:
        SettingsError: no key is given, or it is none.
    """
    return Hasher(_key(settings.feedback_key, "XLMR_FEEDBACK_KEY"))


def _key(said: str, variable: str) -> bytes:
    hint = f"{variable}=$(openssl rand -hex 32), kept where secrets are kept"
    if not said:
        raise SettingsError(f"{variable} is not set", hint=hint)
    try:
        return bytes.fromhex(said)
    except ValueError:
        raise SettingsError(f"{variable}: expected 64 hexadecimal digits", hint=hint) from None
