"""A server breaks, somebody is paged; it is mended, and they are told. With the real programs."""

from __future__ import annotations

import time

import pytest
from tests.alerting import Webhook, program
from tests.services import free_port

from xlmr.levels.burning import Pair
from xlmr.levels.objectives import DEFAULT_OBJECTIVES, parse_objectives
from xlmr.levels.routing import alertmanager_document
from xlmr.levels.rules import rule_groups, rules_document
from xlmr.levels.yaml_text import yaml_text

# An hour and five minutes, played in seconds.
PAIRS = (Pair("page", "20s", "5s", 14.4),)
PATIENCE_S = 60


@pytest.fixture
def webhook():
    webhook = Webhook()
    with webhook.listening():
        yield webhook


def configured(webhook, tmp_path, *, target, alertmanager):
    """The files of both, for an impatient night."""
    text = DEFAULT_OBJECTIVES.replace("http://127.0.0.1:9095/page", f"{webhook.address}/page")
    objectives = parse_objectives(text)
    groups = rule_groups(objectives, pairs=PAIRS, interval="1s")
    (tmp_path / "rules.yaml").write_text(yaml_text(rules_document(objectives, groups)))
    routing = alertmanager_document(objectives)
    routing["route"]["group_interval"] = "1s"
    for route in routing["route"]["routes"]:
        route["group_wait"] = "0s"
    (tmp_path / "alertmanager.yaml").write_text(yaml_text(routing))
    prometheus = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "rules.yaml")],
        "scrape_configs": [
            {
                "job_name": objectives.job,
                "static_configs": [{"targets": [target], "labels": {"region": "eu"}}],
            }
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }
    (tmp_path / "prometheus.yaml").write_text(yaml_text(prometheus))


def asked_until(house, status, told):
    """Asks a few times a second until somebody was told."""
    deadline = time.monotonic() + PATIENCE_S
    while not told():
        assert house.classify(input="hello world").status_code == status
        assert time.monotonic() < deadline, "nobody was told"
        time.sleep(0.1)


def test_a_page_arrives_when_it_breaks_and_is_taken_back_when_it_is_mended(
    house_of, webhook, tmp_path
):
    alertmanager, own = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with house_of("router") as house:
        target = house.address.removeprefix("http://")
        configured(webhook, tmp_path, target=target, alertmanager=alertmanager)
        house.classify(input="hello world")
        with (
            program(
                "prometheus-alertmanager",
                f"--config.file={tmp_path / 'alertmanager.yaml'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
                "--storage.path=data",
                directory=tmp_path,
            ),
            program(
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--web.listen-address={own}",
                "--storage.tsdb.path=data",
                directory=tmp_path,
            ),
        ):
            house.gated.fault = RuntimeError("broken")
            asked_until(house, 500, lambda: ("firing", "XlmrAvailability") in alerts(webhook))
            house.gated.fault = None
            asked_until(house, 200, lambda: ("resolved", "XlmrAvailability") in alerts(webhook))
    _, labels = webhook.told[0]
    assert labels["severity"] == "page"
    assert labels["model"] == "router"
    assert labels["region"] == "eu"
    assert labels["version"]


def alerts(webhook):
    return [(status, labels["alertname"]) for status, labels in webhook.told]
