"""For whoever pays: how much was asked, how much succeeded, what it cost. Pure."""

from __future__ import annotations

from xlmr.levels.dashboards.panels import Dashboard, Panel, Row
from xlmr.levels.dashboards.queries import Queries
from xlmr.levels.objectives import Objectives


def executive(objectives: Objectives, queries: Queries) -> Dashboard:
    """The page."""
    return Dashboard(
        uid="xlmr-executive",
        title="xlmr: service",
        rows=[_numbers(objectives, queries), _volume(queries), _worth(objectives, queries)],
        variables=queries.variables(),
        since="30d",
    )


def _numbers(objectives: Objectives, queries: Queries) -> Row:
    requests = queries.version("xlmr_requests_total")
    money = queries.server("xlmr_cost_money_total")
    return Row(
        "Thirty days",
        [
            Panel(
                title="Requests",
                kind="stat",
                width=6,
                queries={"requests": f"sum(increase({requests}[30d]))"},
            ),
            Panel(
                title=f"Succeeded (promised {objectives.availability.target * 100:g} %)",
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


def _volume(queries: Queries) -> Row:
    requests = queries.version("xlmr_requests_total")
    items = queries.rate(queries.version("xlmr_items_total", code="ok"), "language")
    return Row(
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
                queries={"{{language}}": f"topk(12, {items})"},
            ),
        ],
    )


def _worth(objectives: Objectives, queries: Queries) -> Row:
    version = queries.version
    # What a model costs is not counted: engines are shared.
    money, tokens = queries.server("xlmr_cost_money_total"), queries.server("xlmr_tokens_total")
    by = "model, version, language"
    ratio = version("xlmr_drift_accuracy_ratio", source="estimated", end="share")
    right = f"max by ({by}) ({ratio})"
    return Row(
        "Worth",
        [
            Panel(
                title="Right answers, estimated",
                unit="percentunit",
                about="Of the worst languages, over a day; needs a drift store and a reference.",
                queries={"{{model}}@{{version}} {{language}}": f"bottomk(12, {right})"},
            ),
            Panel(
                title="Mean confidence",
                unit="percentunit",
                about="Of calibrated models an estimate of accuracy, while traffic stays alike.",
                queries={
                    "{{model}}@{{version}}": queries.ratio(
                        version("xlmr_confidence_ratio_sum"),
                        version("xlmr_confidence_ratio_count"),
                        "model, version",
                        "1d",
                    )
                },
            ),
            Panel(
                title="Too unsure to be given",
                unit="percentunit",
                limit=objectives.quality.abstained,
                queries={
                    "{{language}}": queries.ratio(
                        version("xlmr_abstained_items_total"),
                        version("xlmr_items_total", code="ok"),
                        "language",
                        "1d",
                    )
                },
            ),
            Panel(
                title="Cost of a thousand tokens",
                queries={"now": f"1000 * {queries.ratio(money, tokens, '')}"},
            ),
        ],
    )
