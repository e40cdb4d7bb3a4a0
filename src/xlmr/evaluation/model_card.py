"""A model's card, README.md in Hugging Face's format, made of what the run knows. Pure.

Front matter in YAML, then tables by language, the worst first. It holds figures, digests and names,
and never a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xlmr.evaluation.figures import in_words, plain_figures
from xlmr.text.codes import short_code

# xlmr's task → Hugging Face's pipeline, and the type that a result of `model-index` names.
_PIPELINES = {
    "classify": "text-classification",
    "multi-label": "text-classification",
    "score": "text-classification",
    "infer": "text-classification",
    "paraphrase": "text-classification",
    "tag": "token-classification",
    "answer": "question-answering",
    "similarity": "sentence-similarity",
    "bitext": "sentence-similarity",
    "rank": "sentence-similarity",
    "embed": "sentence-similarity",
    "rerank": "text-ranking",
    "fill": "fill-mask",
}
_USES = {
    "classify": "Gives a text one of the labels below, with a probability.",
    "multi-label": "Gives a text any number of the labels below, each with a probability.",
    "score": "Gives a text a number.",
    "infer": "Says what follows from a text about another.",
    "paraphrase": "Says whether two texts mean the same.",
    "tag": "Marks names and other spans in a text; words are never split.",
    "answer": "Finds the span of a text that answers a question, or says that there is none.",
    "rerank": "Says how well a document answers a query.",
    "fill": "Gives candidates for masked words.",
}
_VECTORS = "Turns texts into vectors that lie close together where texts mean the same."
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LICENSE = re.compile(r"^(license(?:_name|_link)?):[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_MOST_LABELS = 100


def render_card(
    *,
    name: str,
    task: str,
    extras: Mapping[str, Any],
    report: Mapping[str, Any] | None = None,
    calibration: Sequence[Mapping[str, Any]] = (),
    labels: Sequence[str] = (),
    license: Mapping[str, str] | None = None,
    base_model: str | None = None,
    dataset: str = "",
) -> str:
    """The card of a model.

    Args:
        name: of the model.
        task: what it was trained for: `classify`, `tag`, `embed` …
        extras: `xlmr.json` as parsed, with its `lineage`.
        report: what `xlmr evaluate --json` writes; None where nothing was evaluated.
        calibration: for each language, `Honesty.to_json` or the same fields.
        labels: what the model gives.
        license: fields of the encoder's card, as `license_of` reads them.
        base_model: what it was made from; the encoder of the lineage where None.
        dataset: what the evaluated rows are called; the names of their files where empty.

    Returns:
        Markdown with front matter, the same for the same arguments.
    """
    lineage: Mapping[str, Any] = extras.get("lineage") or {}
    base = base_model or (lineage.get("encoder") or {}).get("name")
    sections = [
        _front_matter(name, task, report, license or {}, base, dataset),
        f"# {_plain(name)}\n",
        _use(task, labels, base),
        _results(report),
        _calibration(calibration),
        _data(lineage, report),
        _training(lineage),
        _limits(report),
        "Written by `xlmr` from the run's own record; changes by hand are lost.\n",
    ]
    return "\n".join(section for section in sections if section)


def license_of(card: str) -> dict[str, str]:
    """The fields of a card's front matter that say its licence; empty where it says nothing."""
    front = _FRONT.match(card)
    if front is None:
        return {}
    return {key: value.strip("\"'") for key, value in _LICENSE.findall(front[1])}


def _front_matter(
    name: str,
    task: str,
    report: Mapping[str, Any] | None,
    license: Mapping[str, str],
    base: str | None,
    dataset: str,
) -> str:
    languages = [] if report is None else report["languages"]
    codes = sorted({short_code(row["language"]) for row in languages})
    lines = ["---"]
    if codes:
        lines += ["language:", *(f"- {_yaml(code)}" for code in codes)]
    lines += [f"{key}: {_yaml(value)}" for key, value in license.items()]
    if base:
        lines.append(f"base_model: {_yaml(base)}")
    vectors = _PIPELINES.get(task) == "sentence-similarity"
    lines.append(f"library_name: {'sentence-transformers' if vectors else 'transformers'}")
    if task in _PIPELINES:
        lines.append(f"pipeline_tag: {_PIPELINES[task]}")
    lines += ["tags:", "- xlm-roberta", "- multilingual", "- xlmr", f"- {_yaml(task)}"]
    if report is not None:
        lines += ["model-index:", f"- name: {_yaml(name)}", "  results:"]
        for row in languages:
            lines += _result(task, report, row, dataset)
    return "\n".join([*lines, "---", ""])


def _result(
    task: str, report: Mapping[str, Any], row: Mapping[str, Any], dataset: str
) -> Iterator[str]:
    """One language's entry of `model-index`."""
    measured = report.get("task", task)
    yield from (
        "  - task:",
        f"      type: {_yaml(_PIPELINES.get(measured, measured))}",
        "    dataset:",
        f"      name: {_yaml(dataset or _file_names(report))}",
        f"      type: {_yaml(dataset or _file_names(report))}",
        f"      config: {_yaml(row['language'])}",
        "    metrics:",
    )
    figures = {report["metric"]: row["value"]} | plain_figures(row["more"])
    for figure, value in figures.items():
        yield f"    - type: {_yaml(figure)}"
        yield f"      value: {value:.4f}"
        yield f"      name: {_yaml(in_words(figure))}"


def _file_names(report: Mapping[str, Any]) -> str:
    """What a data set is called by its files: `en.test.jsonl`, or `*.test.jsonl` of several."""
    names = [str(file["file"]) for file in report.get("data", [])]
    ends = {name.partition(".")[2] for name in names}
    if len(names) == 1:
        return names[0]
    return f"*.{ends.pop()}" if len(ends) == 1 else "rows of " + str(len(names)) + " files"


def _use(task: str, labels: Sequence[str], base: str | None) -> str:
    lines = ["## Intended use\n", _USES.get(task, _VECTORS)]
    if base:
        lines[-1] += f" Made from {_plain(base)}."
    if labels:
        shown = ", ".join(f"`{_plain(label)}`" for label in labels[:_MOST_LABELS])
        rest = len(labels) - _MOST_LABELS
        lines.append(f"\nLabels: {shown}{f' and {rest} more' if rest > 0 else ''}.")
    lines.append(
        "\nIts answers are estimates. Where they decide about people, a person must be able to see "
        "and to change them.\n"
    )
    return "\n".join(lines)


def _results(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "## Results\n\nNot evaluated.\n"
    metric = in_words(report["metric"])
    lines = [
        f"## Results by language, the worst first\n\nMacro {metric} **{report['macro']:.3f}** over "
        f"{len(report['languages'])} languages, {report['n']:,} rows. Worst language: "
        f"**{_plain(report['worst'])}**, {report['worst_value']:.3f}.",
    ]
    if report.get("gap_to_english") is not None:
        lines[-1] += (
            f" English: {report['english']:.3f}, {report['gap_to_english']:.3f} above the mean of "
            "the others."
        )
    more = list(plain_figures(report["more_macro"]))
    rows = [
        (
            row["language"],
            row["script"],
            f"{row['n']:,}",
            f"{row['value']:.3f}",
            f"{row['low']:.3f} – {row['high']:.3f}",
            *(f"{row['more'][each]:.3f}" if each in row["more"] else "–" for each in more),
        )
        for row in report["languages"]
    ]
    heads = ("language", "script", "n", metric, "95 % interval", *map(in_words, more))
    lines += ["", _table(heads, rows)]
    return "\n".join(lines)


def _calibration(calibration: Sequence[Mapping[str, Any]]) -> str:
    if not calibration:
        return ""
    rows = [
        (
            row["language"],
            f"{row['n']:,}",
            f"{row['temperature']:.3f}",
            f"{row['ece_before']:.3f}",
            f"{row['ece_after']:.3f}",
            f"{row['ece_by_chance']:.3f}" if "ece_by_chance" in row else "–",
        )
        for row in sorted(calibration, key=lambda row: (-row["ece_after"], row["language"]))
    ]
    heads = ("language", "n", "temperature", "ECE before", "ECE after", "of an honest model")
    said = (
        "ECE: how far a probability is from how often the answer is right, on average; in the last "
        "column what chance alone makes of as many rows, were every probability true."
    )
    return f"## Calibration\n\n{said}\n\n{_table(heads, rows)}"


def _data(lineage: Mapping[str, Any], report: Mapping[str, Any] | None) -> str:
    files = [(file.get("split", ""), file) for file in lineage.get("data") or []]
    files += [("evaluated", file) for file in (report or {}).get("data", [])]
    if not files:
        return ""
    rows = [
        (split, file["file"], f"{file['rows']:,}", f"`{file['sha256']}`") for split, file in files
    ]
    return f"## Data\n\n{_table(('for', 'file', 'rows', 'SHA-256'), rows)}"


def _training(lineage: Mapping[str, Any]) -> str:
    if not lineage:
        return ""
    encoder = lineage.get("encoder") or {}
    rows = [
        ("method", str(lineage.get("method", "–"))),
        ("seed", str(lineage.get("seed", "–"))),
        ("encoder", f"{encoder.get('name', '–')} `{encoder.get('digest', '')}`"),
        *((name, str(version)) for name, version in (lineage.get("versions") or {}).items()),
    ]
    return f"## How it was made\n\n{_table(('', ''), rows)}"


def _limits(report: Mapping[str, Any] | None) -> str:
    said = ["Languages that are not in the table were not measured: expect less there."]
    if report is not None:
        few = [row["language"] for row in report["languages"] if row["n"] < 200]
        if few:
            said.append(f"Fewer than 200 rows stand behind {', '.join(map(_plain, few))}.")
        if report.get("truncated"):
            said.append(
                f"{report['truncated']:,} of the evaluated rows were longer than the model reads."
            )
    said.append("The figures hold for texts like those evaluated, and for no others.")
    return "## Limits\n\n" + "\n".join(f"- {each}" for each in said) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines) + "\n"


def _plain(text: str) -> str:
    """A name that cannot break a line or a table, nor become markup."""
    joined = " ".join(str(text).split())
    return re.sub(r"([|<>\[\]])", r"\\\1", joined)


def _yaml(text: str) -> str:
    """A YAML scalar: bare where nothing about it could be misread, else in JSON's quotes."""
    # `no` is Norwegian, not false; a bare number would not be a name.
    bare = re.fullmatch(r"[A-Za-z][\w./-]*", text) and text.lower() not in _YAML_WORDS
    return text if bare else json.dumps(text, ensure_ascii=False)


_YAML_WORDS = frozenset({"no", "yes", "on", "off", "true", "false", "null", "n", "y"})
