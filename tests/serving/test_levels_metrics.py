"""Every metric that a rule or a panel asks for is exported by a running server."""

from __future__ import annotations

import itertools
import json
import re

from prometheus_client.parser import text_string_to_metric_families

from xlmr.levels.alerts import ALWAYS_THERE
from xlmr.levels.files import files_of
from xlmr.levels.glance import glance
from xlmr.levels.objectives import DEFAULT_OBJECTIVES, bound_of, parse_objectives
from xlmr.levels.reading import Reading, Span
from xlmr.levels.rules import rule_groups
from xlmr.registry.rollout.assignment import Weighted

# Prometheus' own.
OF_PROMETHEUS = {"up", "ALERTS"}
NAME = re.compile(r"\b([a-zA-Z_]\w*)\{")


def asked_for():
    """Every name in a query, without those that rules record."""
    objectives = parse_objectives(DEFAULT_OBJECTIVES)
    rules = itertools.chain.from_iterable(group.rules for group in rule_groups(objectives))
    names = {name for rule in rules for name in NAME.findall(query(rule.expression))}
    for text in files_of(objectives, "dashboards").values():
        for panel in json.loads(text)["panels"]:
            for target in panel.get("targets", ()):
                names |= set(NAME.findall(query(target["expr"])))
    return names - OF_PROMETHEUS


def query(expression):
    """Without what other rules record."""
    return re.sub(r"xlmr:[\w:]+\{", "(", expression)


def exported(text):
    """Names of samples, and of metrics that have none yet."""
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    for family in text_string_to_metric_families(text):
        names |= {sample.name for sample in family.samples}
    return names


def test_what_rules_and_panels_ask_for_is_exported(house_of):
    with house_of("router") as house:
        at_first = exported(house.client.get("/metrics").text)
        version = house.plane.pool.models["router"].ref.version
        house.plane.routes.set("router", Weighted({version: 1.0}, "salt"))
        house.classify(input=["hello world", "где посылка и где мои деньги"])
        house.classify(input=["hello world"], model="nobody")
        text = house.client.get("/metrics").text
    names = asked_for()
    assert len(names) > 30
    assert names <= exported(text)
    assert set(ALWAYS_THERE) <= at_first
    objectives = parse_objectives(DEFAULT_OBJECTIVES)
    for limit_ms in (objectives.latency.p95_ms, objectives.latency.p99_ms):
        assert re.search(rf'xlmr_request_seconds_bucket{{.*le="{bound_of(limit_ms)}"', text)
    assert re.search(r'xlmr_confidence_ratio_bucket{.*le="0.6"', text)


def test_a_glance_shows_what_happened(house_of):
    with house_of("router") as house:
        address = {"input": ["hello world", "где посылка и где мои деньги"]}
        before = Reading(house.client.get("/metrics").text, at=0.0)
        for _ in range(3):
            assert house.classify(**address).status_code == 200
        house.gated.fault = RuntimeError("broken")
        assert house.classify(input="good morning").status_code == 500
        house.classify(input=[])
        shown = glance(Span(Reading(house.client.get("/metrics").text, at=10.0), before))
    assert shown["requests"]["total"] == 5
    assert shown["requests"]["failed"] == 1
    assert shown["requests"]["per_second"] == 0.5
    assert shown["latency_ms"]["p50"] > 0
    assert shown["stages_ms"]["infer"] > 0
    (model,) = shown["models"]
    assert (model["model"], model["state"], model["failed"]) == ("router", "ready", 1)
    languages = {row["language"]: row for row in shown["languages"]}
    assert languages["ru"]["texts"] == 3
    assert 0 < languages["ru"]["confidence"] <= 1
    assert shown["memory"]["resident"]["server"] > 1e6
    json.dumps(shown, allow_nan=False)
