"""All rules of a file of objectives, as Prometheus reads them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlmr.levels.alerts import alert_groups
from xlmr.levels.burning import PAIRS, Pair, burn_groups
from xlmr.levels.objectives import Objectives
from xlmr.levels.rule import Alert, Group


def rule_groups(
    objectives: Objectives, *, pairs: Sequence[Pair] = PAIRS, interval: str = "30s"
) -> list[Group]:
    """Burn rates first: alerts stand on them."""
    return [
        *burn_groups(objectives, pairs=pairs, interval=interval),
        *alert_groups(objectives, interval=interval),
    ]


def rules_document(objectives: Objectives, groups: Sequence[Group]) -> dict[str, Any]:
    """A rule file of Prometheus, as plain values."""
    return {
        "groups": [
            {
                "name": group.name,
                "interval": group.interval,
                "rules": [rule.document(objectives.runbooks) for rule in group.rules],
            }
            for group in groups
        ]
    }


def alerts_of(groups: Sequence[Group]) -> list[Alert]:
    """The alerts among the rules."""
    return [rule for group in groups for rule in group.rules if isinstance(rule, Alert)]
