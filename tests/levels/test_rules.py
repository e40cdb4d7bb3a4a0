from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from xlmr.levels.alerts import ALWAYS_THERE
from xlmr.levels.burning import PAIRS
from xlmr.levels.files import RULES, RULES_TEST, files_of
from xlmr.levels.rule import Record
from xlmr.levels.rule_tests import hours, rules_test
from xlmr.levels.rules import alerts_of, rule_groups
from xlmr.levels.series import CALLERS_OWN, EXPORTED, FOREIGN, Fleet
from xlmr.levels.yaml_text import yaml_text
from xlmr.serving.http.problems import STATUS_OF_CODE
from xlmr.telemetry.table import TABLE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "levels.md"
# Labels that Prometheus or its scrape configuration gives.
OF_TARGETS = {"job", "instance", "region"}


@pytest.fixture(params=["usual", "full"])
def objectives(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def written(objectives, tmp_path):
    for name, text in files_of(objectives, "rules").items():
        (tmp_path / name).write_text(text)
    return tmp_path


def promtool(*words):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: run `make services` as root")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def test_promtool_takes_the_rules(written):
    done = promtool("check", "rules", str(written / RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_say_of_every_hour_what_they_should(written):
    done = promtool("test", "rules", str(written / RULES_TEST))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("hour", "before", "after"),
    [
        ("too few events", r"(harmed:\w+\{objective=\"availability\"\}) >= 20", r"\1 >= 0"),
        ("burns slowly", r">= 14.4", ">= 2"),
        ("absent metrics", r"up(\{[^}]*\}) == 1 unless", r"up\1 == 2 unless"),
    ],
)
def test_a_rule_that_is_wrong_is_found(hour, before, after, usual, tmp_path):
    rules = files_of(usual, "rules")[RULES]
    test = rules_test(usual, rules=RULES)
    test["tests"] = [played for played in test["tests"] if played["name"] == hour]
    (tmp_path / RULES_TEST).write_text(yaml_text(test))
    for text, passes in ((rules, True), (re.sub(before, after, rules), False)):
        (tmp_path / RULES).write_text(text)
        done = promtool("test", "rules", str(tmp_path / RULES_TEST))
        assert (done.returncode == 0) == passes, done.stderr


def test_every_alert_fires_in_some_hour_with_its_severity(objectives):
    fired = set(itertools.chain.from_iterable(hour.firing for hour in hours(objectives)))
    known = {(alert.name, alert.severity) for alert in alerts_of(rule_groups(objectives))}
    assert fired == known


def test_every_alert_says_what_to_do_and_where_that_is_written(objectives):
    sections = {line.removeprefix("### ").lower() for line in PAGE.read_text().splitlines()}
    for alert in alerts_of(rule_groups(objectives)):
        document = alert.document(objectives.runbooks)
        assert set(document["annotations"]) == {"summary", "action", "runbook_url"}
        assert all(document["annotations"].values())
        assert document["labels"]["severity"] in ("page", "ticket")
        address, _, section = document["annotations"]["runbook_url"].partition("#")
        assert address == objectives.runbooks
        assert section in sections, f"docs/levels.md has no section {alert.name}"


def test_no_section_of_the_runbook_is_about_nothing(usual):
    sections = set(re.findall(r"^### (Xlmr\w+)$", PAGE.read_text(), re.MULTILINE))
    assert sections == {alert.name for alert in alerts_of(rule_groups(usual))}


def test_alerts_of_one_name_are_told_apart(objectives):
    seen = [(a.name, a.severity, *a.labels.items()) for a in alerts_of(rule_groups(objectives))]
    assert len(seen) == len(set(seen))


def test_rules_ask_for_what_is_in_the_table_with_its_labels_and_values(objectives):
    labels = {metric.name: {*metric.labels, "le"} for metric in TABLE}
    known = {metric.name: set(metric.known) for metric in TABLE if metric.known}
    for rule in itertools.chain.from_iterable(g.rules for g in rule_groups(objectives)):
        for name, braced in re.findall(r"\b(xlmr_\w+)\{([^}]*)\}", rule.expression):
            assert name in EXPORTED
            metric = re.sub(r"_(total|bucket|count|sum)$", "", name)
            if metric not in labels:
                metric = name
            matchers = re.findall(r'(\w+)(=~|!~|=|!=)"([^"]*)"', braced)
            assert {label for label, *_ in matchers} <= labels[metric] | OF_TARGETS, rule
            for label, _, values in matchers:
                if metric in known and label in labels[metric]:
                    assert set(values.split("|")) <= known[metric]


def test_rules_stand_on_nothing_that_is_not_recorded(objectives):
    rules = list(itertools.chain.from_iterable(g.rules for g in rule_groups(objectives)))
    kept = {rule.name for rule in rules if isinstance(rule, Record)}
    used = {n for rule in rules for n in re.findall(r"\bxlmr:\w+:\w+", rule.expression)}
    assert used <= kept
    # The longest window's numbers are kept for the pair that asks for them.
    assert {f"xlmr:burn_rate:{w}" for pair in PAIRS for w in (pair.long, pair.short)} <= used


def test_the_caller_s_own_faults_are_what_http_says_they_are():
    own = {code for code, status in STATUS_OF_CODE.items() if status < 500}
    # Too busy is told with a 4xx, and is ours.
    assert set(CALLERS_OWN) == (own | {"client_gone"}) - {"overloaded"}


def test_a_name_that_nobody_exports_cannot_be_asked_for():
    of = Fleet("xlmr")
    assert of("xlmr_sheds_total", reason="late") == 'xlmr_sheds_total{job="xlmr",reason="late"}'
    for name in ("xlmr_sheds", "xlmr_nonsense_total", "go_goroutines"):
        with pytest.raises(KeyError):
            of(name)
    assert set(ALWAYS_THERE) <= EXPORTED
    assert not FOREIGN & EXPORTED
