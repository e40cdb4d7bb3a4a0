from __future__ import annotations

import json
import re

import pytest

from xlmr.levels.dashboards import dashboards
from xlmr.levels.files import files_of
from xlmr.levels.rule import Record
from xlmr.levels.rules import rule_groups
from xlmr.levels.series import EXPORTED, FOREIGN


def panels(document):
    return [panel for panel in document["panels"] if panel["type"] != "row"]


@pytest.fixture(params=["executive", "on-call", "debug"])
def page(request, usual):
    return dashboards(usual)[request.param].document()


def test_panels_ask_for_what_is_in_the_table_or_recorded(page, usual):
    kept = {rule.name for g in rule_groups(usual) for rule in g.rules if isinstance(rule, Record)}
    for panel in panels(page):
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            names = set(re.findall(r"([a-zA-Z_:][\w:]*)\{", target["expr"]))
            assert names, target
            assert names <= EXPORTED | FOREIGN | kept, target


def test_panels_do_not_lie_on_each_other(page):
    taken = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])


def test_every_variable_of_a_query_can_be_chosen(page):
    chosen = {variable["name"] for variable in page["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(page))) - {"__rate_interval", "__all"}
    assert used <= chosen


def test_queries_of_a_panel_are_told_apart(page):
    for panel in panels(page):
        marks = [target["refId"] for target in panel["targets"]]
        assert len(marks) == len(set(marks))


def test_limits_are_the_objectives(full):
    (p95,) = [p for p in panels(dashboards(full)["on-call"].document()) if p["title"] == "p95"]
    steps = p95["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps == [{"color": "green", "value": None}, {"color": "red", "value": 0.1}]


def test_where_more_is_better_less_is_red(usual):
    pages = dashboards(usual)["on-call"].document()
    (share,) = [p for p in panels(pages) if p["title"] == "Succeeded"]
    steps = share["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["color"] for step in steps] == ["red", "green"]


def test_files_are_json(usual):
    files = files_of(usual, "dashboards")
    assert {json.loads(text)["uid"] for text in files.values()} == {
        "xlmr-executive",
        "xlmr-on-call",
        "xlmr-debug",
    }
