"""Who is told of an alert, and when nobody is, as Alertmanager reads it. Pure.

Pages and tickets go to their receivers, quality to the model's owner. What is about one version in
one region comes as one notification. A page silences the ticket of the same kind, and a region that
is down its single servers.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from xlmr.levels.objectives import DAYS, Maintenance, Objectives, Receiver

_TEXT = (
    "{{ range .Alerts }}{{ .Annotations.summary }} {{ .Annotations.action }}"
    " {{ .Annotations.runbook_url }}\n{{ end }}"
)


def alertmanager_document(objectives: Objectives) -> dict[str, Any]:
    """A configuration of Alertmanager, as plain values."""
    notify = objectives.notify
    routes = [
        *(
            _route(objectives, owner, ['category="quality"', f'model="{model}"'])
            for model, owner in notify.owners.items()
        ),
        _route(
            objectives, notify.page, ['severity="page"'], group_wait="10s", repeat_interval="1h"
        ),
        _route(objectives, notify.ticket, ['severity="ticket"']),
    ]
    document: dict[str, Any] = {
        "route": {
            "receiver": notify.ticket,
            "group_by": ["model", "version", "region"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": routes,
        },
        "inhibit_rules": _inhibitions(),
        "receivers": [
            {"name": name, **_receiver(receiver)} for name, receiver in objectives.receivers.items()
        ],
    }
    if objectives.smtp is not None:
        smtp = objectives.smtp
        document["global"] = {"smtp_smarthost": smtp.host, "smtp_from": smtp.sender}
    if objectives.maintenance:
        document["time_intervals"] = [
            {"name": window.name, "time_intervals": list(_intervals(window))}
            for window in objectives.maintenance
        ]
    return document


def _route(
    objectives: Objectives, receiver: str, matchers: list[str], **more: str
) -> dict[str, Any]:
    """A route, silent in maintenance; regions with windows of their own are routes below it."""
    windows = objectives.maintenance
    regions = sorted({region for window in windows for region in window.regions})

    def silent(region: str) -> dict[str, Any]:
        names = [w.name for w in windows if not w.regions or region in w.regions]
        return {"mute_time_intervals": names} if names else {}

    route = {"matchers": matchers, "receiver": receiver, **more, **silent("")}
    if regions:
        route["routes"] = [{"matchers": [f'region="{r}"'], **silent(r)} for r in regions]
    return route


def _inhibitions() -> list[dict[str, Any]]:
    page, ticket = 'severity="page"', 'severity="ticket"'
    servers = 'alertname=~"XlmrServerDown|XlmrMetricsMissing|XlmrTrafficStopped"'
    return [
        {
            "source_matchers": [page],
            "target_matchers": [ticket],
            "equal": ["alertname", "job", "model", "version", "region", "instance"],
        },
        {
            "source_matchers": ['alertname="XlmrRegionDown"'],
            "target_matchers": [servers],
            "equal": ["job", "region"],
        },
    ]


def _receiver(receiver: Receiver) -> dict[str, Any]:
    if receiver.webhook:
        return {"webhook_configs": [{"url": receiver.webhook, "send_resolved": True}]}
    if receiver.slack:
        slack = {"api_url_file": receiver.slack, "channel": receiver.channel, "text": _TEXT}
        return {"slack_configs": [slack | {"send_resolved": True}]}
    if receiver.pagerduty:
        return {"pagerduty_configs": [{"routing_key_file": receiver.pagerduty}]}
    return {"email_configs": [{"to": receiver.email, "send_resolved": True}]}


def _intervals(window: Maintenance) -> Iterator[dict[str, Any]]:
    """One range of times, or two where it goes past midnight."""
    if window.start < window.end:
        yield _interval(window, window.start, window.end, later=0)
        return
    yield _interval(window, window.start, "24:00", later=0)
    if window.end != "00:00":
        yield _interval(window, "00:00", window.end, later=1)


def _interval(window: Maintenance, start: str, end: str, *, later: int) -> dict[str, Any]:
    """A range of times on the window's days, or the days after them."""
    interval: dict[str, Any] = {
        "times": [{"start_time": start, "end_time": end}],
        "location": window.zone,
    }
    if window.days:
        interval["weekdays"] = [DAYS[(DAYS.index(day) + later) % len(DAYS)] for day in window.days]
    if window.date:
        day = date.fromisoformat(window.date) + timedelta(days=later)
        interval["days_of_month"] = [str(day.day)]
        interval["months"] = [str(day.month)]
        interval["years"] = [str(day.year)]
    return interval
