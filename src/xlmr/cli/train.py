"""`xlmr train`: labelled examples become a model directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from xlmr.cli.progress import TokenBar
from xlmr.errors import TrainingError
from xlmr.evaluation.near_duplicates import Policy
from xlmr.settings import Settings
from xlmr.training.checkpoint import check_target
from xlmr.training.data import Examples, read_examples

_FULL_ONLY = ("epochs", "learning_rate", "batch_tokens")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is said at the end. `dev` holds shares of 1; empty where nothing was held out."""

    dev: dict[str, float]
    truncated: int
    tokens: int
    seconds: float


@click.command("train")
@click.option(
    "--method",
    type=click.Choice(["head", "full"]),
    default="head",
    show_default=True,
    help="head: a classifier on frozen sentence vectors; seconds, no torch. "
    "full: encoder and head learn; minutes to hours.",
)
@click.option(
    "--encoder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Model directory to start from.",
)
@click.option(
    "--train",
    "train_path",
    type=click.Path(path_type=Path),
    required=True,
    help="JSONL, CSV, TSV or Parquet with text, label, language; "
    "or a folder of LANGUAGE.train.jsonl.",
)
@click.option(
    "--train-language",
    "languages",
    multiple=True,
    metavar="CODE",
    help="Learn from rows in this language only; may be repeated.",
)
@click.option(
    "--dev",
    "dev_path",
    type=click.Path(path_type=Path),
    help="Rows to choose and calibrate on. Without: LANGUAGE.dev.jsonl where --train is a folder "
    "that has it; else the head cross-validates and full keeps its last epoch.",
)
@click.option(
    "--near-duplicates",
    type=click.Choice(["drop", "stop", "keep"]),
    default="drop",
    show_default=True,
    help="Training rows whose text is, or nearly is, that of a dev row: leave them out and say "
    "how many, stop, or keep them.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory to write.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="full: passes over the rows. [8]")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="full: the highest one. [5e-5]",
)
@click.option(
    "--batch-tokens", type=click.IntRange(min=1), help="full: tokens in a batch, padded. [256]"
)
@click.option("--force", is_flag=True, help="Replace a model that is already in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def train_command(
    method: str,
    encoder: Path,
    train_path: Path,
    languages: tuple[str, ...],
    dev_path: Path | None,
    near_duplicates: Policy,
    out: Path,
    seed: int,
    force: bool,
    as_json: bool,
    **full_options: Any,
) -> None:
    """Make a classifier from labelled examples.

    \b
    Learn from English, answer in every language the encoder knows:
      xlmr train --encoder models/starter --train examples/support/data \\
          --train-language en --out models/router
    \b
    A row, one to a line:
      {"text": "Where is my parcel?", "label": "delivery", "language": "en"}

    The same data, options and seed write the same model on the same machine. It remembers the
    digests of its data and its encoder in xlmr.json.
    """
    given = {name: value for name, value in full_options.items() if value is not None}
    if method == "head" and given:
        option = next(iter(given)).replace("_", "-")
        raise click.UsageError(f"--{option} belongs to --method full")
    check_target(out, encoder=encoder, force=force)
    examples = read_examples(
        train_path, dev_path, languages=languages, near_duplicates=near_duplicates
    )
    if not as_json:
        _describe(examples, near_duplicates)
    run = _train_head if method == "head" else _train_full
    outcome = run(encoder, examples, out, seed=seed, force=force, **given)
    if as_json:
        click.echo(json.dumps(_summary(method, examples, out, outcome), indent=2))
    else:
        _conclude(examples, out, outcome)


def _train_head(
    encoder: Path, examples: Examples, out: Path, *, seed: int, force: bool
) -> _Outcome:
    from xlmr.model.predictor import load
    from xlmr.training.head import HeadOptions, embed_texts, fit_head, write_head

    options = HeadOptions(seed=seed)
    texts = [row.text for row in (*examples.train, *examples.dev)]
    vectors = []
    truncated = 0
    with (
        load(encoder, settings=Settings.from_environment()) as predictor,
        TokenBar("sentence vectors") as bar,
    ):
        bundle, runtime = predictor.bundle, predictor.runtime.name
        name = "query" if "query" in bundle.prompts else bundle.default_prompt or ""
        for embedding in embed_texts(predictor, texts, prompt=name):
            vectors.append(embedding.vector)
            truncated += embedding.accounting.truncated
            bar.advance(done=len(vectors) / len(texts), tokens=embedding.accounting.tokens)
    vectors_ND = np.stack(vectors)
    split = len(examples.train)
    head = fit_head(
        vectors_ND[:split],
        np.array(examples.classes(examples.train)),
        vectors_ND[split:],
        np.array(examples.classes(examples.dev), np.int64),
        options,
    )
    write_head(
        out,
        bundle=bundle,
        head=head,
        examples=examples,
        options=options,
        prompt=bundle.prompt(name),
        runtime=runtime,
        force=force,
    )
    return _Outcome(head.held_out, truncated, bar.tokens, bar.seconds)


def _train_full(
    encoder: Path, examples: Examples, out: Path, *, seed: int, force: bool, **given: Any
) -> _Outcome:
    from xlmr.model.bundle import open_bundle
    from xlmr.training import finetune

    options = finetune.FinetuneOptions(seed=seed, **given)
    bundle = open_bundle(encoder, cache_dir=Settings.from_environment().cache_dir)
    train, dev = finetune.encode_rows(examples, bundle.tokenizer, options)
    model = finetune.load_model(bundle, examples.labels, options)
    scores: list[finetune.DevScore] = []
    step: finetune.Step | None = None
    with TokenBar("fine-tuning") as bar:
        for step in finetune.keep_best(model, finetune.fine_tune(model, train, dev, options)):
            if step.dev:
                scores.append(step.dev)
            note = f"loss {step.loss:.3f}"
            if scores:
                note += f" dev {scores[-1].macro_accuracy:.3f}"
            bar.advance(done=step.done, tokens=step.tokens, note=note)
    if step is None:
        raise TrainingError("the run took no step")
    finetune.write_finetuned(
        out,
        model=model,
        bundle=bundle,
        examples=examples,
        options=options,
        scores=scores,
        force=force,
    )
    best = max((score.macro_accuracy for score in scores), default=None)
    said = {} if best is None else {"rows": len(examples.dev), "accuracy": best}
    return _Outcome(said, train.truncated + dev.truncated, bar.tokens, bar.seconds)


def _describe(examples: Examples, near_duplicates: Policy) -> None:
    languages = sorted({row.language for row in examples.train})
    click.echo(
        f"{len(examples.train)} rows to learn from, {len(examples.dev)} to choose on, "
        f"{len(examples.labels)} labels, {', '.join(languages)}"
    )
    for file in (*examples.train_files, *examples.dev_files):
        if file.duplicates:
            click.echo(f"  {file.path}: {file.duplicates} repeated rows were dropped")
        if file.contradictions:
            click.echo(f"  {file.path}: {file.contradictions} texts have more than one label")
    if near := examples.near_duplicates:
        where = ", ".join(f"{language} {count}" for language, count in near.items())
        done = "left out" if near_duplicates == "drop" else "kept"
        click.echo(f"  {sum(near.values())} training rows nearly repeat dev rows: {done} ({where})")


def _conclude(examples: Examples, out: Path, outcome: _Outcome) -> None:
    if outcome.dev:
        where = "dev" if examples.dev else "cross-validation"
        click.echo(f"accuracy {outcome.dev['accuracy']:.3f} on {outcome.dev['rows']} {where} rows")
    if outcome.truncated:
        click.echo(f"{outcome.truncated} rows were longer than the model reads and were cut")
    click.echo(f"{out}  ({outcome.tokens:,} tokens in {outcome.seconds:.1f} s)")


def _summary(method: str, examples: Examples, out: Path, outcome: _Outcome) -> dict[str, Any]:
    return {
        "model": str(out),
        "method": method,
        "labels": list(examples.labels),
        "rows": {"train": len(examples.train), "dev": len(examples.dev)},
        "near_duplicates": examples.near_duplicates,
        "held_out": outcome.dev,
        "truncated": outcome.truncated,
        "tokens": outcome.tokens,
        "seconds": round(outcome.seconds, 3),
    }
