"""A card is front matter that Hugging Face reads, and tables that say what the report says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from xlmr.evaluation.model_card import license_of, render_card

ENCODER_CARD = """---
license: mit
base_model: intfloat/multilingual-e5-small
---

# An encoder
"""


def score(language: str, value: float, n: int = 300) -> dict[str, Any]:
    return {
        "language": language,
        "script": "Latn",
        "n": n,
        "value": value,
        "low": value - 0.02,
        "high": value + 0.02,
        "more": {"macro_f1": value - 0.01, "f1:PER": 0.5},
        "truncated": 0,
    }


REPORT: dict[str, Any] = {
    "task": "classify",
    "metric": "accuracy",
    "languages": [score("no", 0.61, n=60), score("zh-Hant", 0.8), score("pt-BR", 0.9)],
    "n": 660,
    "macro": 0.77,
    "worst": "no",
    "worst_value": 0.61,
    "english": None,
    "gap_to_english": None,
    "seed": 0,
    "more_macro": {"macro_f1": 0.76, "f1:PER": 0.5},
    "truncated": 2,
    "data": [
        {"file": f"{key}.test.jsonl", "sha256": key * 3, "rows": 300} for key in ("no", "zh", "pt")
    ],
}
EXTRAS = {
    "format": 1,
    "lineage": {
        "method": "full",
        "seed": 4,
        "encoder": {"name": "starter", "digest": "ab" * 32},
        "data": [{"split": "train", "file": "en.train.jsonl", "sha256": "cd" * 32, "rows": 700}],
        "versions": {"xlmr": "0.1.0", "torch": "2.13.0"},
    },
}


def card(**changed: Any) -> str:
    known: dict[str, Any] = {
        "name": "router",
        "task": "classify",
        "extras": EXTRAS,
        "report": REPORT,
        "labels": ["refund", "de|very"],
        "license": license_of(ENCODER_CARD),
    }
    return render_card(**known | changed)


def front(text: str) -> dict[str, Any]:
    read = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(read, dict)
    return read


def test_the_front_matter_says_what_a_hub_lists() -> None:
    found = front(card())
    assert found["language"] == ["no", "pt", "zh"]  # and Norwegian is not `false`
    assert found["license"] == "mit"
    assert found["base_model"] == "starter"
    assert found["pipeline_tag"] == "text-classification"
    assert {"xlm-roberta", "classify"} <= set(found["tags"])


def test_every_language_is_a_result_with_its_figures() -> None:
    [model] = front(card())["model-index"]
    assert model["name"] == "router"
    by_config = {each["dataset"]["config"]: each for each in model["results"]}
    assert set(by_config) == {"no", "zh-Hant", "pt-BR"}
    metrics = {m["type"]: m["value"] for m in by_config["no"]["metrics"]}
    assert metrics == {"accuracy": 0.61, "macro_f1": 0.6}
    assert by_config["no"]["dataset"]["name"] == "*.test.jsonl"
    assert front(card(dataset="support"))["model-index"][0]["results"][0]["dataset"] == {
        "name": "support",
        "type": "support",
        "config": "no",
    }


def test_hugging_face_reads_it() -> None:
    hub = pytest.importorskip("huggingface_hub")
    read = hub.ModelCard(card()).data
    assert read.model_name == "router"
    assert len(read.eval_results) == 6
    assert {each.dataset_config for each in read.eval_results} == {"no", "zh-Hant", "pt-BR"}


def test_the_tables_say_the_worst_first_and_keep_names_apart() -> None:
    text = card()
    assert text.index("| no |") < text.index("| zh-Hant |") < text.index("| pt-BR |")
    assert "| no | Latn | 60 | 0.610 | 0.590 – 0.630 | 0.600 |" in text
    assert "`de\\|very`" in text
    assert "f1:PER" not in text
    assert f"| train | en.train.jsonl | 700 | `{'cd' * 32}` |" in text
    assert "Fewer than 200 rows stand behind no." in text
    assert "2 of the evaluated rows were longer" in text


def test_calibration_has_a_table_where_it_was_measured() -> None:
    rows = [
        {"language": "en", "n": 200, "temperature": 1.2, "ece_before": 0.09, "ece_after": 0.02},
        {"language": "sw", "n": 200, "temperature": 1.4, "ece_before": 0.2, "ece_after": 0.05},
    ]
    rows[1]["ece_by_chance"] = 0.04
    text = card(calibration=rows)
    sw, en = (
        "| sw | 200 | 1.400 | 0.200 | 0.050 | 0.040 |",
        "| en | 200 | 1.200 | 0.090 | 0.020 | – |",
    )
    assert text.index(sw) < text.index(en)
    assert "Calibration" not in card()


def test_without_a_report_it_says_so() -> None:
    text = card(report=None, license=None)
    found = front(text)
    assert "model-index" not in found
    assert "license" not in found
    assert "Not evaluated" in text


@pytest.mark.parametrize("name", ['a: "b"', "1.0", "null", "# x", "x\n---\ny", "- a", "[b]"])
def test_any_name_stays_one_name(name: str) -> None:
    text = card(name=name, dataset=name)
    found = front(text) if "\n---\n" not in name else yaml.safe_load(text.split("\n---\n")[0])
    assert found["model-index"][0]["name"] == name
    assert found["model-index"][0]["results"][0]["dataset"]["type"] == name


def test_the_same_facts_write_the_same_card() -> None:
    assert card() == card()


def test_a_licence_is_read_from_another_card() -> None:
    assert license_of(ENCODER_CARD) == {"license": "mit"}
    assert license_of('---\nlicense: other\nlicense_name: "x-1"\n---\n') == {
        "license": "other",
        "license_name": "x-1",
    }
    assert license_of("# No front matter\nlicense: mit\n") == {}
