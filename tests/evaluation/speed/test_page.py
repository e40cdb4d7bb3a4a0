"""The page that `make bench` writes, from figures made up here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def runtime(rate: float) -> dict[str, Any]:
    return {"median_s": 1 / rate, "min_s": 1 / rate, "rounds": 3, "tokens_per_s": rate}


SHAPE = {
    "shape": "base, random weights",
    "precision": "int8",
    "threads": 2,
    "operations_per_token": 169_869_312,
    "ours": "xlmr int8",
    "date": "2031-05-04T03:02:01+00:00",
    "machine": {
        "processor": "Abacus 9",
        "usable_cores": 2,
        "kernels": "avx2",
        "memory_gib": 8.0,
        "system": "Linux x86_64",
        "python": "3.12.1",
    },
    "versions": {"xlmr int8": "0.1.0", "openvino int8": "9.9"},
    "skipped": {"torch fp32": "torch is not installed"},
    "workloads": {
        "8x32": {
            "tokens": 256,
            "runtimes": {"xlmr int8": runtime(4000.0), "openvino int8": runtime(2500.0)},
            "best_peer": "openvino int8",
            "ratio_to_best_peer": 1.6,
            "ceiling_share": 0.755,
        },
        "1x16": {
            "tokens": 16,
            "runtimes": {"xlmr int8": runtime(2000.0), "openvino int8": runtime(1000.0)},
            "best_peer": None,
            "ratio_to_best_peer": None,
            "ceiling_share": None,
        },
    },
    "chart": "performance-base.png",
}


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "page", raising=False)
    import page

    yield page.render
    sys.modules.pop("page", None)


def test_every_figure_reaches_the_page(render: Any) -> None:
    page = render(
        {
            "shapes": {"base": SHAPE},
            "start": {
                "process_s": 2.0,
                "imports_s": 0.25,
                "tokenizer_s": 0.7,
                "engine_s": 0.125,
                "answer_s": 0.05,
            },
            "memory": {
                "requests": 20_000,
                "seconds": 100.0,
                "tokens": 600_000,
                "samples": [{"requests": 20_000, "resident_mib": 512.0, "anonymous_mib": 300.0}],
            },
            "agreement": {
                "texts": 40,
                "languages": ["de", "th"],
                "runtimes": {
                    "xlmr int8": {"mean": 0.9991, "worst": 0.9981, "worst_language": "th"}
                },
            },
        }
    )
    for line in (
        "| date | 2031-05-04 |",
        "| processor | Abacus 9, 2 cores usable |",
        "| versions | xlmr 0.1.0, openvino 9.9 |",
        "| 8x32 | 256 | **4,000** | 2,500 | 1.60 × openvino int8 | 76% |",
        "| 1x16 | 16 | **2,000** | 1,000 | – | – |",
        "Not taking part: torch fp32: torch is not installed.",
        "(performance-base.png)",
        "| model directory to first answer | 875 ms |",
        "| of that: engine, from prepared weights | 125 ms |",
        "| 20,000 | 512 | 300 |",
        "6,000 tokens a second over HTTP",
        "| xlmr int8 | 0.99910 | 0.99810 | th |",
    ):
        assert line in page


def test_what_was_not_measured_has_no_section(render: Any) -> None:
    page = render({"shapes": {"base": {**SHAPE, "skipped": {}}}})
    assert "## base" in page
    assert "## Memory" not in page
    assert "Not taking part" not in page
