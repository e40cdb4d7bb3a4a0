"""The fine-tunes that are compared: their rows, and what each side is told about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# The example scripts ask a hub for a metric before they train, and use it only afterwards: scoring
# is `xlmr evaluate`'s part. A folder of the metric's name where they run stands in for the hub.
_METRIC = """\
import datasets

import evaluate


class Unused(evaluate.Metric):
    def _info(self):
        features = datasets.Features(
            {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
        )
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=features
        )

    def _compute(self, predictions, references):
        raise NotImplementedError("trained models are scored by xlmr evaluate")
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A fine-tune in English.

    Attributes:
        name: as on the command line.
        title: as on the page.
        task: `xlmr train --task`.
        train: file of training rows, under the data folder.
        tests: folders under the data folder, each with the split that is scored.
        script: under `examples/pytorch`.
        arguments: of the script, besides those that every job has.
        convert: one of our rows → one of the script's.
        rows: training rows, from the first; 0 for all.
    """

    name: str
    title: str
    task: str
    train: str
    tests: tuple[tuple[str, str], ...]
    script: str
    arguments: tuple[str, ...]
    convert: Callable[[Json], Json]
    rows: int = 0

    def script_arguments(self, folder: Path) -> list[str]:
        """What the script needs to be told about its rows, which lie in `folder`."""
        if self.script.startswith("text-classification"):
            # It insists on a file to validate on, and reads only its labels when it trains.
            return [*self.arguments, "--validation_file", str(folder / "train.json")]
        return list(self.arguments)


def _labelled(row: Json) -> Json:
    return {"text": row["text"], "label": row["label"]}


def _pair(row: Json) -> Json:
    return {name: row[name] for name in ("premise", "hypothesis", "label")}


def _tagged(row: Json) -> Json:
    return {"tokens": row["tokens"], "ner_tags": row["tags"]}


def _question(row: Json) -> Json:
    answers = row["answers"]
    return {
        "id": str(row["id"]),
        "question": row["question"],
        "context": row["context"],
        "answers": {
            "text": [answer["text"] for answer in answers],
            "answer_start": [answer["start"] for answer in answers],
        },
    }


_CLASSIFICATION = "text-classification/run_classification.py"
_TEXT = ("--text_column_names", "text", "--per_device_train_batch_size", "32")
# Between the two texts of a pair the tokenizer itself writes these.
_TWO_TEXTS = ("--text_column_names", "premise,hypothesis", "--text_column_delimiter", "</s></s>")

JOBS: Mapping[str, Job] = {
    job.name: job
    for job in (
        Job(
            name="sentiment",
            title="Sentiment (XLM-T)",
            task="classify",
            train="sentiment/xlmt/en.train.jsonl",
            tests=(("sentiment/xlmt", "test"),),
            script=_CLASSIFICATION,
            arguments=_TEXT,
            convert=_labelled,
        ),
        Job(
            name="topic",
            title="Topic (SIB-200)",
            task="classify",
            train="topic/sib200/eng_Latn.train.jsonl",
            tests=(("topic/sib200", "test"),),
            script=_CLASSIFICATION,
            arguments=_TEXT,
            convert=_labelled,
        ),
        Job(
            name="intent",
            title="Intent (OHF intents)",
            task="classify",
            train="intent/ohf_intents/en.train.jsonl",
            tests=(("intent/ohf_intents", "test"),),
            script=_CLASSIFICATION,
            arguments=_TEXT,
            convert=_labelled,
        ),
        Job(
            name="nli",
            title="NLI (XNLI dev, split)",
            task="infer",
            train="nli/xnli_devsplit/en.train.jsonl",
            tests=(("nli/xnli_devsplit", "test"),),
            script=_CLASSIFICATION,
            arguments=(*_TWO_TEXTS, "--per_device_train_batch_size", "32"),
            convert=_pair,
        ),
        Job(
            name="ner",
            title="NER (UNER)",
            task="tag",
            train="ner/uner/en.dev.jsonl",  # there is no English train file
            tests=(("ner/uner", "test"),),
            script="token-classification/run_ner.py",
            arguments=(),
            convert=_tagged,
        ),
        Job(
            name="qa",
            title="QA (MLQA, TQuAD)",
            task="answer",
            train="qa/tydiqa_goldp/en.train.jsonl",
            # Not TyDi's dev rows: they name no answers.
            tests=(("qa/mlqa", "dev"), ("qa/tquad", "dev")),
            script="question-answering/run_qa.py",
            arguments=("--per_device_train_batch_size", "12"),
            convert=_question,
            rows=400,
        ),
    )
}


def prepare(job: Job, data: Path, folder: Path, *, train_rows: int = 0, test_rows: int = 0) -> int:
    """Writes what both sides read: `train/`, `script/train.json` and `test/`.

    Test rows with a label that no training row has are left out: neither side can give it.

    Args:
        job: see `Job`.
        data: the data folder.
        folder: what is written.
        train_rows: at most; 0 sets no limit.
        test_rows: likewise, of each language.

    Returns:
        Training rows.

    Raises:
        SystemExit: files are missing; says which.
    """
    source = data / job.train
    if not source.is_file():
        raise SystemExit(f"{source}: no training rows for {job.name}")
    lines = _lines(source)[: job.rows or None][: train_rows or None]
    language = source.name.partition(".")[0]
    _write(folder / "train" / f"{language}.train.jsonl", lines)
    rows = [json.loads(line) for line in lines]
    _write_script_rows(job, [job.convert(row) for row in rows], folder / "script" / "train.json")
    labels = {row["label"] for row in rows if "label" in row}
    for dataset, split in job.tests:
        files = sorted((data / dataset).glob(f"*.{split}.jsonl"))
        if not files:
            raise SystemExit(f"{data / dataset}: no {split} rows for {job.name}")
        for path in files:
            known = [
                line for line in _lines(path) if not labels or json.loads(line)["label"] in labels
            ]
            name = path.name.removesuffix(f".{split}.jsonl")
            target = folder / "test" / dataset / f"{name}.test.jsonl"
            _write(target, known[: test_rows or None])
    return len(rows)


def write_metrics(folder: Path) -> None:
    """A folder for the scripts to run in, with every metric they ask for."""
    for name in ("accuracy", "seqeval", "squad"):
        _write(folder / name / f"{name}.py", [_METRIC])


def _write_script_rows(job: Job, rows: Sequence[Json], path: Path) -> None:
    if job.task == "answer":  # SQuAD's shape
        _write(path, [json.dumps({"version": "1", "data": rows}, ensure_ascii=False)])
    else:
        _write(path, [json.dumps(row, ensure_ascii=False) for row in rows])


def _lines(path: Path) -> list[str]:
    # Not splitlines: it takes separators that stand inside texts for ends of lines.
    return [line for line in path.read_text("utf-8").split("\n") if line.strip()]


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
