"""What is made of a file of objectives, by the names of the files it goes into. Pure."""

from __future__ import annotations

import json
from typing import Literal

from xlmr.levels.dashboards import dashboards
from xlmr.levels.objectives import Objectives
from xlmr.levels.routing import alertmanager_document
from xlmr.levels.rule_tests import rules_test
from xlmr.levels.rules import rule_groups, rules_document
from xlmr.levels.yaml_text import yaml_text

Kind = Literal["rules", "alertmanager", "dashboards"]
KINDS: tuple[Kind, ...] = ("rules", "alertmanager", "dashboards")
RULES, RULES_TEST, ALERTMANAGER = "rules.yaml", "rules.test.yaml", "alertmanager.yaml"

_HEADING = "Made by `xlmr levels {}`: change the objectives, not this file."


def files_of(objectives: Objectives, kind: Kind) -> dict[str, str]:
    """The texts of one kind of files, by their names below a directory."""
    heading = _HEADING.format(kind)
    if kind == "rules":
        rules = rules_document(objectives, rule_groups(objectives))
        test = rules_test(objectives, rules=RULES)
        return {
            RULES: yaml_text(rules, heading=heading),
            RULES_TEST: yaml_text(test, heading=heading),
        }
    if kind == "alertmanager":
        return {ALERTMANAGER: yaml_text(alertmanager_document(objectives), heading=heading)}
    return {
        f"dashboards/{name}.json": json.dumps(page.document(), indent=2) + "\n"
        for name, page in dashboards(objectives).items()
    }
