"""What a service promises, who is told when it does not, and when nobody is: one TOML file. Pure.

`DEFAULT_OBJECTIVES` is such a file, with every key, what it is unless it is given, and its meaning.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import date
from itertools import chain
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from xlmr.errors import SettingsError
from xlmr.telemetry.table import LANGUAGES, TABLE

DEFAULT_OBJECTIVES = """\
job = "xlmr"                  # what Prometheus calls these servers (`job_name`)
# Where your people read docs/levels.md; each alert links to its section there.
runbooks = "https://runbooks.example.com/xlmr"

[availability]
target = 0.999                # of requests in 30 days that must not fail by our fault

[latency]                     # of requests, each a bound of xlmr_request_seconds
p95_ms = 200                  # 95 in 100 are answered sooner
p99_ms = 500                  # 99 in 100

[events]                      # harmed requests in the longer window before anybody is told
page = 20
ticket = 20

[server]
memory = 0.9                  # of its limit, at most
busy = 0.9                    # of the time an engine computes; beyond it for half an hour: a ticket
queue_seconds = 10            # that the oldest request may have waited
registry_minutes = 15         # since the registry was read, where one is followed

[rollout]                     # of what a version in the shadow read
disagreed = 0.1               # other answers than the live version's, at most
failed = 0.01                 # no answer, at most

[quality]                     # told to the model's owner; over a day
abstained = 0.3               # answers too unsure to be given, in a language, at most
truncated = 0.1               # texts of which a part was not read, at most
unknown = 0.02                # pieces outside the vocabulary, at most
least_texts = 200             # before any of these is believed
# [quality.languages]         # abstained, where a language has an objective of its own
# sw = 0.5

[accuracy]                    # by language: estimated, and known where labels come
fall = 0.05                   # below what it was at release, at most
# [accuracy.languages]        # at least, where a language has an objective of its own
# sw = 0.8

[notify]                      # a receiver for each; quality goes to the model's owner, else here
page = "on-call"
ticket = "tickets"

# [notify.owners]             # model → receiver
# router = "intents"

[receivers.on-call]           # one of webhook, slack, pagerduty, email
webhook = "http://127.0.0.1:9095/page"

[receivers.tickets]
webhook = "http://127.0.0.1:9095/ticket"

# [receivers.intents]
# slack = "/etc/alertmanager/slack-url"           # a file with the URL: no secrets stand here
# channel = "#intents"
# pagerduty = "/etc/alertmanager/pagerduty-key"   # a file with the key
# email = "intents@example.com"                   # and below:
# [smtp]
# host = "smtp.example.com:587"
# sender = "alerts@example.com"

# [[maintenance]]             # nobody is told meanwhile; may be repeated
# name = "index-rebuild"
# days = ["saturday"]         # [every day]
# date = "2026-12-24"         # or one day only
# start = "23:00"
# end = "02:00"               # of the next day, where it is before the start
# zone = "Europe/Berlin"      # [UTC]
# regions = ["eu"]            # [everywhere]
"""

DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
Day = Literal["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
Share = Annotated[float, Meta(gt=0.0, lt=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Count = Annotated[int, Meta(ge=1)]
Time = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Date = Annotated[str, Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Url = Annotated[str, Meta(pattern=r"^https?://\S+$")]

_BOUNDS_S = next(m.buckets for m in TABLE if m.name == "xlmr_request_seconds")


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key that nobody knows is a mistake."""


class Availability(_Strict, frozen=True):
    """How much must succeed."""

    target: Share = 0.999


class Latency(_Strict, frozen=True):
    """How soon."""

    p95_ms: Positive = 200
    p99_ms: Positive = 500


class Events(_Strict, frozen=True):
    """How many harmed requests make a fact."""

    page: Count = 20
    ticket: Count = 20


class Server(_Strict, frozen=True):
    """What a server may use and how long things may wait."""

    memory: Share = 0.9
    busy: Share = 0.9
    queue_seconds: Positive = 10
    registry_minutes: Positive = 15


class Rollout(_Strict, frozen=True):
    """Shares of what a version in the shadow read."""

    disagreed: Share = 0.1
    failed: Share = 0.01


class Quality(_Strict, frozen=True):
    """What answers may lack, over a day."""

    abstained: Share = 0.3
    truncated: Share = 0.1
    unknown: Share = 0.02
    least_texts: Count = 200
    languages: dict[str, Share] = {}


class Accuracy(_Strict, frozen=True):
    """How right answers must be."""

    fall: Share = 0.05
    languages: dict[str, Share] = {}


class Notify(_Strict, frozen=True):
    """Names of receivers."""

    page: Word = "on-call"
    ticket: Word = "tickets"
    owners: dict[Word, Word] = {}


class Receiver(_Strict, frozen=True):
    """One way to reach people; secrets stand in the files that are named."""

    webhook: Url = ""
    slack: str = ""
    channel: str = ""
    pagerduty: str = ""
    email: str = ""


class Smtp(_Strict, frozen=True):
    """How e-mail is sent."""

    host: Annotated[str, Meta(pattern=r"^[^\s:]+:\d+$")]
    sender: Annotated[str, Meta(pattern=r"^\S+@\S+$")]


class Maintenance(_Strict, frozen=True):
    """When nobody is told. `end` before `start` is of the next day."""

    name: Word
    start: Time
    end: Time
    days: tuple[Day, ...] = ()
    date: Date = ""
    zone: str = "UTC"
    regions: tuple[Word, ...] = ()


class Objectives(_Strict, frozen=True):
    """The whole file."""

    job: Word
    runbooks: Url
    receivers: dict[Word, Receiver]
    availability: Availability = Availability()
    latency: Latency = Latency()
    events: Events = Events()
    server: Server = Server()
    rollout: Rollout = Rollout()
    quality: Quality = Quality()
    accuracy: Accuracy = Accuracy()
    notify: Notify = Notify()
    smtp: Smtp | None = None
    maintenance: tuple[Maintenance, ...] = ()


def parse_objectives(text: str, *, origin: str = "objectives") -> Objectives:
    """Reads a file of objectives.

    Args:
        text: TOML.
        origin: where it is from, for errors.

    Raises:
        SettingsError: it is no TOML, has a key that nobody knows, or says what cannot be; all that
            is wrong with values that depend on each other is told at once.
    """
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise SettingsError(f"{origin}: {fault}", hint="it is a TOML file") from None
    try:
        objectives = msgspec.convert(said, Objectives)
    except msgspec.ValidationError as fault:
        raise SettingsError(
            f"{origin}: {str(fault).replace('`$.', '`')}",
            hint="`xlmr levels init` prints every key and what it means",
        ) from None
    wrong = list(chain(_latency(objectives), _people(objectives), _times(objectives.maintenance)))
    own = {"quality": objectives.quality.languages, "accuracy": objectives.accuracy.languages}
    wrong += [
        f"{part}.languages.{code}: no language that is counted by itself"
        for part, languages in own.items()
        for code in sorted(languages.keys() - LANGUAGES)
    ]
    if wrong:
        raise SettingsError("\n  ".join((f"{origin}:", *wrong)))
    return objectives


def _latency(objectives: Objectives) -> Iterator[str]:
    """What is not counted cannot be promised: a histogram knows its bounds alone."""
    latency = objectives.latency
    bounds = ", ".join(f"{bound * 1000:g}" for bound in _BOUNDS_S)
    for key, limit in (("p95_ms", latency.p95_ms), ("p99_ms", latency.p99_ms)):
        if not any(abs(limit - bound * 1000) < 1e-6 for bound in _BOUNDS_S):
            yield f"latency.{key}: {limit:g} is counted nowhere; take one of {bounds}"
    if latency.p99_ms < latency.p95_ms:
        yield "latency: p99_ms is below p95_ms"


def _people(objectives: Objectives) -> Iterator[str]:
    notify, receivers = objectives.notify, objectives.receivers
    asked = {"page": notify.page, "ticket": notify.ticket}
    asked |= {f"owners.{model}": name for model, name in notify.owners.items()}
    for key, name in asked.items():
        if name not in receivers:
            yield f"notify.{key}: there is no [receivers.{name}]"
    for name, receiver in receivers.items():
        yield from _receiver(name, receiver, objectives.smtp)


def _receiver(name: str, receiver: Receiver, smtp: Smtp | None) -> Iterator[str]:
    ways = [w for w in ("webhook", "slack", "pagerduty", "email") if getattr(receiver, w)]
    if len(ways) != 1:
        yield f"receivers.{name}: say one of webhook, slack, pagerduty, email"
    if bool(receiver.slack) != bool(receiver.channel):
        yield f"receivers.{name}: slack and channel go together"
    if receiver.email and smtp is None:
        yield f"receivers.{name}: email needs [smtp] with host and sender"
    for key in ("slack", "pagerduty"):
        if getattr(receiver, key) and not getattr(receiver, key).startswith("/"):
            yield f"receivers.{name}.{key}: the path of a file that holds the secret, as /etc/…"


def _times(windows: tuple[Maintenance, ...]) -> Iterator[str]:
    names = [window.name for window in windows]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"maintenance: two windows are called {name}"
    for window in windows:
        if window.start == window.end:
            yield f"maintenance.{window.name}: it ends when it starts"
        if window.date and window.days:
            yield f"maintenance.{window.name}: say days or a date"
        if window.date and not _is_date(window.date):
            yield f"maintenance.{window.name}.date: there is no {window.date}"
        try:
            ZoneInfo(window.zone)
        except (ZoneInfoNotFoundError, ValueError):
            yield f"maintenance.{window.name}.zone: no time zone is called {window.zone}"


def _is_date(said: str) -> bool:
    try:
        date.fromisoformat(said)
    except ValueError:
        return False
    return True


def bound_of(limit_ms: float) -> str:
    """The histogram's bound for a limit, as its `le` label is written."""
    return str(next(bound for bound in _BOUNDS_S if abs(limit_ms - bound * 1000) < 1e-6))
