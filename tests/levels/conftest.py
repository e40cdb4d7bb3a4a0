from __future__ import annotations

import pytest

from xlmr.levels.objectives import DEFAULT_OBJECTIVES, Objectives, parse_objectives

FULL = """
job = "texts"
runbooks = "https://wiki.example.com/xlmr"

[availability]
target = 0.99

[latency]
p95_ms = 100
p99_ms = 1000

[events]
page = 50
ticket = 10

[server]
memory = 0.8
busy = 0.7
queue_seconds = 5
registry_minutes = 5

[rollout]
disagreed = 0.2
failed = 0.05

[quality]
abstained = 0.2
least_texts = 500
[quality.languages]
de = 0.4
sw = 0.5

[accuracy]
fall = 0.1
[accuracy.languages]
sw = 0.7

[notify]
page = "night"
ticket = "day"
[notify.owners]
router = "intents"
tagger = "names"

[receivers.night]
pagerduty = "/etc/alertmanager/key"
[receivers.day]
email = "day@example.com"
[receivers.intents]
slack = "/etc/alertmanager/url"
channel = "#intents"
[receivers.names]
webhook = "http://127.0.0.1:1/names"

[smtp]
host = "smtp.example.com:587"
sender = "alerts@example.com"

[[maintenance]]
name = "index"
days = ["saturday"]
start = "23:00"
end = "02:00"
zone = "Europe/Berlin"
regions = ["eu"]

[[maintenance]]
name = "move"
date = "2026-12-31"
start = "22:30"
end = "06:00"
"""


@pytest.fixture(scope="session")
def usual() -> Objectives:
    """As `xlmr levels init` prints them."""
    return parse_objectives(DEFAULT_OBJECTIVES)


@pytest.fixture(scope="session")
def full_text() -> str:
    """Every key, none as it is by default."""
    return FULL


@pytest.fixture(scope="session")
def full() -> Objectives:
    return parse_objectives(FULL)
