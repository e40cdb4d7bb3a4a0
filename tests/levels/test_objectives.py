from __future__ import annotations

import re
import tomllib

import msgspec
import pytest

from xlmr.errors import SettingsError
from xlmr.levels.objectives import (
    DEFAULT_OBJECTIVES,
    _Strict,
    bound_of,
    parse_objectives,
)

LEAST = """
job = "xlmr"
runbooks = "https://runbooks.example.com/xlmr"
[receivers.on-call]
webhook = "http://127.0.0.1:1"
[receivers.tickets]
webhook = "http://127.0.0.1:1"
"""


def test_what_init_prints_says_what_holds_without_it(usual):
    least = parse_objectives(LEAST)
    assert msgspec.structs.replace(usual, receivers=least.receivers) == least
    assert set(usual.receivers) == {usual.notify.page, usual.notify.ticket}


def test_what_init_prints_names_every_key():
    said = set(re.findall(r"^(?:# )?(\w+) = ", DEFAULT_OBJECTIVES, re.MULTILINE))
    said |= set(re.findall(r"^(?:# )?\[+(?:\w+\.)?([\w-]+)", DEFAULT_OBJECTIVES, re.MULTILINE))
    sections = _Strict.__subclasses__()
    assert len(sections) > 10
    for section in sections:
        assert set(section.__struct_fields__) - {"receivers"} <= said, section


def test_its_commented_lines_can_be_uncommented():
    lines = [
        line.removeprefix("# ") if re.match(r"# (\[|\w+ = )", line) else line
        for line in DEFAULT_OBJECTIVES.splitlines()
        if not re.match(r"# (pagerduty|email|date) = ", line)
    ]
    objectives = parse_objectives("\n".join(lines))
    assert objectives.notify.owners == {"router": "intents"}
    assert objectives.maintenance[0].zone == "Europe/Berlin"
    assert objectives.quality.languages == {"sw": 0.5}


def test_it_is_read_whole(full, full_text):
    assert tomllib.loads(full_text)["server"] == msgspec.structs.asdict(full.server)
    assert full.latency.p99_ms == 1000
    assert [window.name for window in full.maintenance] == ["index", "move"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("job = ", "TOML"),
        ("surprise = 1", "surprise"),
        ("[latency]\np95_ms = 180", "latency.p95_ms: 180 is counted nowhere; take one of 1, 2, 5"),
        ("[latency]\np95_ms = 500\np99_ms = 200", "p99_ms is below p95_ms"),
        ("[latency]\np98_ms = 200", "p98_ms"),
        ("[availability]\ntarget = 99.9", "< 1.0"),
        ("[events]\npage = 0", ">= 1"),
        ('[notify]\npage = "nobody"', "there is no [receivers.nobody]"),
        ('[notify.owners]\nrouter = "nobody"', "notify.owners.router: there is no"),
        ("[receivers.none]", "receivers.none: say one of"),
        ('[receivers.x]\nwebhook = "http://a"\nemail = "a@b"', "receivers.x: say one of"),
        ('[receivers.x]\nemail = "a@b"', "needs [smtp]"),
        ('[receivers.x]\nslack = "/etc/url"', "slack and channel go together"),
        ('[receivers.x]\npagerduty = "s3cr3t"', "the path of a file"),
        ('[receivers.x]\nwebhook = "ftp://a"', "webhook"),
        ("[quality.languages]\nxx = 0.5", "quality.languages.xx"),
        ("[accuracy.languages]\nxx = 0.5", "accuracy.languages.xx"),
        ('[[maintenance]]\nname = "a"\nstart = "25:00"\nend = "02:00"', "start"),
        ('[[maintenance]]\nname = "a"\nstart = "02:00"\nend = "02:00"', "ends when it starts"),
        (
            '[[maintenance]]\nname = "a"\nstart = "01:00"\nend = "02:00"\nzone = "Mars/Base"',
            "no time zone is called Mars/Base",
        ),
        (
            '[[maintenance]]\nname = "a"\nstart = "01:00"\nend = "02:00"\ndate = "2026-02-30"',
            "there is no 2026-02-30",
        ),
        (
            '[[maintenance]]\nname = "a"\nstart = "01:00"\nend = "02:00"\n' * 2,
            "two windows are called a",
        ),
    ],
)
def test_what_is_wrong_is_named(change, says):
    text = change + LEAST if re.match(r"\w", change) else LEAST + change
    with pytest.raises(SettingsError, match=re.escape(says)):
        parse_objectives(text, origin="levels.toml")


def test_faults_that_hang_together_are_told_at_once():
    wrong = '[latency]\np95_ms = 180\n[notify]\npage = "nobody"\n'
    with pytest.raises(SettingsError, match=r"levels\.toml(?s:.*)p95_ms(?s:.*)nobody"):
        parse_objectives(LEAST + wrong, origin="levels.toml")


def test_a_secret_is_not_repeated():
    with pytest.raises(SettingsError) as told:
        parse_objectives(LEAST + '[receivers.x]\npagerduty = "s3cr3t"')
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize(("limit_ms", "le"), [(200, "0.2"), (500.0, "0.5"), (1000, "1.0")])
def test_limits_are_bounds_of_the_histogram(limit_ms, le):
    assert bound_of(limit_ms) == le
