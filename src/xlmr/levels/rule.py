"""What becomes a rule of Prometheus: a number that is kept, or an alert. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["page", "ticket"]
Category = Literal["levels", "servers", "engine", "registry", "rollout", "quality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A number that Prometheus works out and keeps under a name."""

    name: str
    expression: str
    labels: Mapping[str, str]

    def document(self, runbooks: str) -> dict[str, Any]:
        """As a rule file holds it."""
        del runbooks
        return {"record": self.name, "expr": self.expression, "labels": self.labels}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that people are told.

    Attributes:
        name: of the alert, and of its section in the runbook.
        severity: whether it wakes somebody.
        category: what kind of people it is for: quality goes to the model's owner.
        expression: what holds while it fires.
        hold: how long it must hold first.
        summary: what is wrong, in a sentence; may hold Prometheus' templates.
        action: what to do first.
        labels: that tell alerts of one name apart.
    """

    name: str
    severity: Severity
    category: Category
    expression: str
    summary: str
    action: str
    hold: str = "0s"
    labels: Mapping[str, str]

    def document(self, runbooks: str) -> dict[str, Any]:
        """As a rule file holds it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.hold,
            "labels": {"severity": self.severity, "category": self.category, **self.labels},
            "annotations": {
                "summary": self.summary,
                "action": self.action,
                "runbook_url": f"{runbooks}#{self.name.lower()}",
            },
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus works out one after the other, every so often."""

    name: str
    interval: str
    rules: Sequence[Record | Alert]
