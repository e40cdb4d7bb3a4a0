"""A directory gains its evidence: honest on rows nobody fitted on, and the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import LABELS, tiny_model

from xlmr.evaluation.golden import check_golden, read_golden
from xlmr.evaluation.suites import MultiLabelRow, Row, Table
from xlmr.model.bundle import open_bundle
from xlmr.model.predictor import load
from xlmr.training.evidence import add_evidence, calibrate, capped, evaluated_as
from xlmr.training.recipe import Evidence, make_recipe

WORDS = [
    "where",
    "is",
    "my",
    "parcel",
    "refund",
    "the",
    "money",
    "a",
    "not",
    "arrived",
    "hello",
    "world",
]
RUSSIAN = ("привет", "мир", "где", "посылка")


def texts(count: int, words: tuple[str, ...], seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(words, 6)) for _ in range(count)]


def table(rows: list[Row] | list[MultiLabelRow]) -> Table[object]:
    return Table(
        path=Path("dev.jsonl"), sha256="0" * 64, rows=tuple(rows), duplicates=0, contradictions=0
    )


def labelled(directory: Path, count: int) -> Table[object]:
    """Rows whose labels are drawn with the probabilities that the outputs divided by 4 state."""
    generator = np.random.default_rng(3)
    rows = []
    with load(directory, runtime="reference") as model:
        for language, words in (("en", WORDS), ("ru", RUSSIAN)):
            some = texts(count, words, seed=len(language + words[0]))
            for i, answer in enumerate(model.classify(some, raw_scores=True)):
                powers = np.exp([one.score / 4.0 for one in answer.labels])
                place = generator.choice(len(powers), p=powers / powers.sum())
                rows.append(Row(some[i], answer.labels[place].label, language, i + 1))
    return table(rows)


def test_it_finds_out_that_a_model_is_too_sure(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    files = (labelled(directory, 150),)
    before = set(directory.iterdir())
    gathered = add_evidence(directory, files=files, task="classify", settings=Evidence(), threads=1)
    said = gathered.report["calibration"]
    assert said["macro_ece_after"] < said["macro_ece_before"]
    assert [row["language"] for row in said["languages"]] == ["en", "ru"]
    assert gathered.report["notes"] == []
    for precision in ("int8", "fp32"):
        assert set(gathered.report[precision]["languages"]) == {"en", "ru"}
    assert gathered.timings["latency"]["p95_ms"] > 0
    added = {path.name for path in set(directory.iterdir()) - before}
    assert added == {"calibration.json", "golden.json"}
    calibration = open_bundle(directory).calibration
    assert calibration is not None
    assert calibration.temperature("en") == pytest.approx(4.0, rel=0.5)
    assert set(calibration.abstention) == {"*"}  # 150 rows a language are too few for their own
    golden = read_golden(directory)
    assert golden is not None
    with load(directory, precision="int8") as served:
        assert served.classify([WORDS[0]])[0].calibrated
        assert check_golden(served, golden, precision="int8").unchanged


def test_the_same_rows_write_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        directory = tiny_model(tmp_path / name, "classify")
        files = (labelled(directory, 60),)
        gathered = add_evidence(directory, files=files, task="classify", settings=Evidence())
        files_written = [(directory / f).read_bytes() for f in ("calibration.json", "golden.json")]
        written.append((files_written, json.dumps(gathered.report)))
    assert written[0] == written[1]


def test_without_rows_it_says_so(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    for files, note in (((), "no held-out rows"), ((labelled(directory, 10),), "20 held-out rows")):
        gathered = add_evidence(directory, files=files, task="classify", settings=Evidence())
        assert note in gathered.report["notes"][0]
        assert not (directory / "calibration.json").exists()
        assert read_golden(directory) is not None


def test_tasks_without_probabilities_are_scored_and_promised(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "tag")
    gathered = add_evidence(directory, files=(), task="tag", settings=Evidence())
    assert gathered.report == {"rows": 0, "notes": []}
    golden = read_golden(directory)
    assert golden is not None
    assert golden.task == "tag"


def test_a_model_that_the_engine_refuses_is_not_held_back(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify", hidden_size=36, num_attention_heads=12)
    files = (labelled(directory, 30),)
    gathered = add_evidence(directory, files=files, task="classify", settings=Evidence())
    [note] = gathered.report["notes"]
    assert note.startswith("no evidence: ")
    assert "heads 3 wide" in note
    assert read_golden(directory) is None


def test_labels_that_do_not_exclude_each_other_get_thresholds(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "multi_label")
    some = texts(120, WORDS, seed=1)
    with load(directory, runtime="reference") as model:
        outputs = [
            {one.label: one.score for one in answer.labels}
            for answer in model.classify(some, raw_scores=True)
        ]
        middle = {name: np.median([row[name] for row in outputs]) for name in outputs[0]}
        rows = [
            MultiLabelRow(
                text=text,
                labels=tuple(sorted(name for name in row if row[name] > middle[name])),
                language="en",
                line=i + 1,
            )
            for i, (text, row) in enumerate(zip(some, outputs, strict=True))
        ]
        found, judged = calibrate(model, (table(rows),), Evidence())
    assert judged[0].n == 120 * len(LABELS["multi_label"])
    assert found.abstention == {}
    assert found.thresholds is not None
    for given, row in zip(rows, outputs, strict=True):
        for name, output in row.items():
            probability = 1.0 / (1.0 + np.exp(-output / found.temperature("en")))
            least = found.thresholds.of(name, "en")
            assert least is not None
            assert (probability >= least - 1e-9) == (name in given.labels)


def test_a_risk_of_nothing_asks_for_no_abstention(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    files = (labelled(directory, 40),)
    with load(directory, runtime="reference") as model:
        assert calibrate(model, files, Evidence(risk=0.0))[0].abstention == {}


def test_no_language_has_more_rows_than_wanted() -> None:
    rows = [Row(str(i), "a", "en" if i % 3 else "de", i) for i in range(90)]
    [kept] = capped((table(rows),), 7)
    assert [row.language for row in kept.rows].count("en") == 7
    assert [row.language for row in kept.rows].count("de") == 7
    assert kept.rows[-1].line > 80
    assert capped((table(rows),), 1000)[0] == table(rows)


@pytest.mark.parametrize(
    ("task", "rows", "name"),
    [
        ("classify", "", "classify"),
        ("infer", "paraphrase", "paraphrase"),
        ("score", "similarity", "similarity"),
        ("embed", "", "rank"),
        ("embed", "bitext", "bitext"),
        ("rerank", "", "rerank"),
        ("fill", "", "fill"),
        ("tag", "", "tag"),
    ],
)
def test_held_out_rows_are_scored_as_what_they_are(task: str, rows: str, name: str) -> None:
    recipe = make_recipe({"task": task, "encoder": "e", "data": {"train": "t", "rows": rows}})
    assert evaluated_as(recipe) == name
