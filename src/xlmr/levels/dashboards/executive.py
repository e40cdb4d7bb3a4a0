"""For whoever pays: how much was asked, how much succeeded, what it cost. Pure."""

from __future__ import annotations

from xlmr.levels.dashboards.panels import Dashboard, Panel, Row
from xlmr.levels.dashboards.queries import Queries
from xlmr.levels.objectives import Objectives


def executive(objectives: Objectives, queries: Queries) -> Dashboard:
    """The page."""
    requests, tokens = queries.version("xlmr_requests_total"), queries.version("xlmr_tokens_total")
    sure = queries.version("xlmr_confidence_ratio_sum")
    answers = queries.version("xlmr_confidence_ratio_count")
    abstained, items = (
        queries.version("xlmr_abstained_items_total"),
        queries.version("xlmr_items_total", code="ok"),
    )
    money = queries.server("xlmr_cost_money_total")
    target = objectives.availability.target
    numbers = Row(
        "Thirty days",
        [
            Panel(
                title="Requests",
                kind="stat",
                width=6,
                queries={"requests": f"sum(increase({requests}[30d]))"},
            ),
            Panel(
                title=f"Succeeded (promised {target * 100:g} %)",
                kind="stat",
                width=6,
                unit="percentunit",
                queries={"succeeded": queries.succeeded(over="30d")},
            ),
            Panel(
                title="Cost",
                kind="stat",
                width=6,
                queries={"cost": f"sum(increase({money}[30d]))"},
                about="In the currency of price_per_hour; busy time only.",
            ),
            Panel(
                title="Servers",
                kind="stat",
                width=6,
                queries={"up": f"sum({queries.server('up')})"},
            ),
        ],
    )
    volume = Row(
        "Volume",
        [
            Panel(
                title="Requests by model",
                unit="reqps",
                queries={"{{model}}": queries.rate(requests, "model")},
            ),
            Panel(
                title="Requests by region",
                unit="reqps",
                queries={"{{region}}": queries.rate(requests, "region")},
            ),
            Panel(
                title="Texts by language",
                unit="cps",
                queries={"{{language}}": f"topk(12, {queries.rate(items, 'language')})"},
            ),
        ],
    )
    worth = Row(
        "Worth",
        [
            Panel(
                title="Mean confidence",
                unit="percentunit",
                about="Of calibrated models an estimate of accuracy, while traffic stays alike.",
                queries={
                    "{{model}}@{{version}}": f"{queries.rate(sure, 'model, version', '1d')}"
                    f" / {queries.rate(answers, 'model, version', '1d')}"
                },
            ),
            Panel(
                title="Too unsure to be given",
                unit="percentunit",
                limit=objectives.quality.abstained,
                queries={
                    "{{language}}": f"{queries.rate(abstained, 'language', '1d')}"
                    f" / ({queries.rate(items, 'language', '1d')} > 0)"
                },
            ),
            Panel(
                title="Cost of a thousand tokens",
                queries={
                    "now": f"1000 * {queries.rate(money, '', '1h')}"
                    f" / {queries.rate(tokens, '', '1h')}"
                },
            ),
        ],
    )
    return Dashboard(
        uid="xlmr-executive",
        title="xlmr: service",
        rows=[numbers, volume, worth],
        variables=queries.variables(),
        since="30d",
    )
