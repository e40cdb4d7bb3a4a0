"""`xlmr train`: examples become a model directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import numpy as np

from xlmr.cli.progress import TokenBar
from xlmr.settings import Settings
from xlmr.training.checkpoint import check_target
from xlmr.training.data import Examples, languages_of, read_examples
from xlmr.training.objectives import schema_of
from xlmr.training.recipe import Recipe, Task, make_recipe, read_recipe, set_values

if TYPE_CHECKING:
    from xlmr.training.loop import DevScore, Step


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is said at the end.

    Attributes:
        held_out: rows and scores of what was not learned from; empty where there was nothing.
        truncated: training rows that lost tokens.
        tokens: read in this process's part of the run.
        seconds: likewise.
    """

    held_out: Mapping[str, Any]
    truncated: int
    tokens: int
    seconds: float


@click.command("train")
@click.argument("recipe_path", metavar="[RECIPE]", required=False, type=click.Path(path_type=Path))
@click.option("--task", type=click.Choice(get_args(Task)), help="What is learned.  [classify]")
@click.option(
    "--method",
    type=click.Choice(["head", "full", "lora"]),
    help="head: a classifier on frozen sentence vectors; seconds, no torch. full: encoder and "
    "head learn; minutes to hours. lora: low-rank updates and the head.  "
    "[classify: head, else full]",
)
@click.option("--encoder", metavar="DIR", help="Model directory to start from.")
@click.option(
    "--train",
    "train_path",
    metavar="PATH",
    help="JSONL, CSV, TSV, Parquet, CoNLL, CoNLL-U, SQuAD JSON or text; "
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
    metavar="PATH",
    help="Rows to choose and calibrate on. Without: LANGUAGE.dev.jsonl where --train is a folder "
    "that has it; else head cross-validates and the others keep their last epoch.",
)
@click.option(
    "--calibrate",
    "calibrate_path",
    metavar="PATH",
    help="Rows to calibrate on alone, in every language they have.  [those of --dev]",
)
@click.option(
    "--near-duplicates",
    type=click.Choice(["drop", "stop", "keep"]),
    help="Training rows whose text is, or nearly is, that of a dev row: leave them out and say "
    "how many, stop, or keep them.  [drop]",
)
@click.option("--seed", type=click.IntRange(min=0), help="[0]")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the rows.  [4]")
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), help="The highest.  [5e-5]"
)
@click.option("--batch-tokens", type=click.IntRange(min=1), help="In a batch, padded.  [1024]")
@click.option(
    "--set",
    "said",
    multiple=True,
    metavar="KEY=VALUE",
    help="Anything else of a recipe: run.patience=2, optimizer.layer_decay=0.9.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory to write.")
@click.option("--force", is_flag=True, help="Replace a model that is already in --out.")
@click.option("--fresh", is_flag=True, help="Forget an unfinished run instead of continuing it.")
@click.option(
    "--track",
    type=click.Choice(["mlflow", "wandb"]),
    help="Tell MLflow, or Weights & Biases, of the run; their own variables say where they are.  "
    "[$XLMR_TRACKER]",
)
@click.option(
    "--ray",
    "workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compute in N workers of a Ray cluster: the one of $RAY_ADDRESS, else one started here.",
)
@click.option("--show-recipe", is_flag=True, help="Print the whole recipe and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def train_command(
    recipe_path: Path | None,
    said: tuple[str, ...],
    out: Path,
    force: bool,
    fresh: bool,
    track: str | None,
    workers: int | None,
    show_recipe: bool,
    as_json: bool,
    **shorthands: Any,
) -> None:
    """Make a model from examples, by a recipe in a file, on the command line, or both.

    \b
    Learn from English, answer in every language the encoder knows:
      xlmr train --encoder models/starter --train examples/support/data \\
          --train-language en --out models/router
    \b
    Names in texts, encoder and all; then the same from a file:
      xlmr train --task tag --encoder models/starter --train data/ner --out models/ner \\
          --set run.epochs=6 --show-recipe > ner.toml
      xlmr train ner.toml --out models/ner
    \b
    A row to classify, one to a line; `xlmr train --task TASK --help` has the same options:
      {"text": "Where is my parcel?", "label": "delivery", "language": "en"}

    The same data, recipe and seed write the same model on the same machine. A run that was killed
    continues when it is started again. The model remembers the digests of its data and its encoder
    in xlmr.json; how the run went is told in OUT.run.
    """
    recipe = _recipe(recipe_path, shorthands, said)
    if show_recipe:
        click.echo(recipe.to_toml(), nl=False)
        return
    check_target(out, encoder=Path(recipe.encoder), force=force)
    examples = read_examples(recipe.data, schema_of(recipe))
    outcome: _Outcome | None
    if recipe.method == "head":
        if not as_json:
            _describe(recipe, examples)
        outcome = _fit_head(recipe, examples, out, force=force)
    elif workers is not None:
        if not as_json:
            _describe(recipe, examples)
        outcome = _train_on_ray(
            recipe, examples, out, workers, force=force, fresh=fresh, track=track
        )
    else:
        options = {"force": force, "fresh": fresh, "track": track}
        outcome = _train_network(recipe, examples, out, quiet=as_json, said=options)
    if outcome is None:
        return  # another process leads and speaks
    if as_json:
        click.echo(json.dumps(_summary(recipe, examples, out, outcome), indent=2))
    else:
        _conclude(examples, out, outcome)


_PLACES = {
    "task": "task",
    "method": "method",
    "encoder": "encoder",
    "seed": "seed",
    "train_path": "data.train",
    "dev_path": "data.dev",
    "calibrate_path": "data.calibrate",
    "languages": "data.languages",
    "near_duplicates": "data.near_duplicates",
    "epochs": "run.epochs",
    "learning_rate": "optimizer.learning_rate",
    "batch_tokens": "run.batch_tokens",
}


def _recipe(path: Path | None, shorthands: Mapping[str, Any], said: tuple[str, ...]) -> Recipe:
    """File, then options, then `--set`: the later wins."""
    values = read_recipe(path) if path is not None else {}
    pairs = [
        f"{_PLACES[name]}={json.dumps(value)}"
        for name, value in shorthands.items()
        if value is not None and value != ()
    ]
    values = set_values(values, [*pairs, *said])
    if path is None:
        for option, key in (("--encoder", "encoder"), ("--train", "data")):
            if key not in values:
                raise click.UsageError(f"a recipe, or {option}, is needed")
    values.setdefault("task", "classify")
    values.setdefault("method", "head" if values["task"] == "classify" else "full")
    if values["method"] == "head":
        for option in ("epochs", "learning_rate", "batch_tokens"):
            if shorthands.get(option) is not None:
                named = option.replace("_", "-")
                raise click.UsageError(f"--{named} says nothing to --method head")
    return make_recipe(values, origin=str(path) if path else "recipe")


def _fit_head(recipe: Recipe, examples: Examples, out: Path, *, force: bool) -> _Outcome:
    from xlmr.model.predictor import load
    from xlmr.training.head import HeadOptions, embed_texts, fit_head, write_head

    options = HeadOptions(seed=recipe.seed)
    texts = [row.text for row in (*examples.train, *examples.dev)]
    vectors = []
    truncated = 0
    with (
        load(recipe.encoder, settings=Settings.from_environment()) as predictor,
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
        evidence=recipe.evidence,
        force=force,
    )
    return _Outcome(head.held_out, truncated, bar.tokens, bar.seconds)


def _train_network(
    recipe: Recipe, examples: Examples, out: Path, *, quiet: bool, said: Mapping[str, Any]
) -> _Outcome | None:
    """Drives a run; `said` are the options that `Conduct` takes besides the settings."""
    from xlmr.model.bundle import open_bundle
    from xlmr.training.conduct import Conduct
    from xlmr.training.devices import Device
    from xlmr.training.run import Training
    from xlmr.training.rundir import run_path
    from xlmr.training.trackers import make_tracker

    options = dict(said)
    settings = Settings.from_environment(tracker=options.pop("track"))
    device = Device()
    if device.leads and not quiet:
        _describe(recipe, examples)
    bundle = open_bundle(Path(recipe.encoder), cache_dir=settings.cache_dir)
    with TokenBar("sentence vectors") as bar:
        told = bar.advance if device.leads else None
        training = Training(recipe, bundle, examples, device, told=told)
    tracker = make_tracker(settings.tracker) if device.leads else None
    conduct = Conduct(training, out, tracker=tracker, country=settings.country, **options)
    if conduct.continues and device.leads and not quiet:
        click.echo(f"an unfinished run continues ({run_path(out)})")
    with TokenBar(recipe.name or "training") as bar:
        for step in conduct.steps():
            if device.leads:
                bar.advance(done=step.done, tokens=step.tokens, note=_note(step, training.scores))
    device.leave()
    if not device.leads:
        return None
    for note in conduct.notes:
        click.echo(note, err=True)
    assert training.state is not None
    best = training.state.best
    held_out = {} if best is None else {"rows": len(examples.dev), best.metric: best.macro}
    return _Outcome(held_out, training.truncated, bar.tokens, bar.seconds)


def _train_on_ray(
    recipe: Recipe, examples: Examples, out: Path, workers: int, **options: Any
) -> _Outcome:
    from xlmr.training.on_ray import train_on_ray

    settings = Settings.from_environment(tracker=options.pop("track"))
    record = train_on_ray(recipe, out, workers=workers, settings=settings, **options)
    for note in record["notes"]:
        click.echo(note, err=True)
    best = max(record["scores"], key=lambda score: score["macro"], default=None)
    held_out = {} if best is None else {"rows": len(examples.dev), best["metric"]: best["macro"]}
    return _Outcome(held_out, record["truncated"], record["tokens"], record["seconds"])


def _note(step: Step, scores: Sequence[DevScore]) -> str:
    """What the bar says beside its speed."""
    note = f"loss {step.loss:.3f}"
    return f"{note} {scores[-1].metric} {scores[-1].macro:.3f}" if scores else note


def _describe(recipe: Recipe, examples: Examples) -> None:
    click.echo(
        f"{len(examples.train)} rows to learn from, {len(examples.dev)} to choose on, "
        f"{_labels(examples)}{', '.join(languages_of(examples.train))}"
    )
    for file in (*examples.train_files, *examples.dev_files):
        if file.duplicates:
            click.echo(f"  {file.path}: {file.duplicates} repeated rows were dropped")
        if file.contradictions:
            click.echo(f"  {file.path}: {file.contradictions} texts have more than one answer")
    if near := examples.near_duplicates:
        where = ", ".join(f"{language} {count}" for language, count in near.items())
        done = "left out" if recipe.data.near_duplicates == "drop" else "kept"
        click.echo(f"  {sum(near.values())} training rows nearly repeat dev rows: {done} ({where})")
    if unknown := examples.unknown_labels:
        where = ", ".join(f"{language} {count}" for language, count in unknown.items())
        rows = f"{sum(unknown.values())} held-out rows"
        click.echo(f"  {rows} have a label that no training row has: left out ({where})")


def _labels(examples: Examples) -> str:
    return f"{len(examples.labels)} labels, " if hasattr(examples.train[0], "label") else ""


def _conclude(examples: Examples, out: Path, outcome: _Outcome) -> None:
    if outcome.held_out:
        where = "dev" if examples.dev else "cross-validation"
        metric, value = next((k, v) for k, v in outcome.held_out.items() if k != "rows")
        name = metric.replace("_", " ")
        click.echo(f"{name} {value:.3f} on {outcome.held_out['rows']} {where} rows")
    if outcome.truncated:
        click.echo(f"{outcome.truncated} rows were longer than the model reads and were cut")
    click.echo(f"{out}  ({outcome.tokens:,} tokens in {outcome.seconds:.1f} s)")


def _summary(recipe: Recipe, examples: Examples, out: Path, outcome: _Outcome) -> dict[str, Any]:
    return {
        "model": str(out),
        "task": recipe.task,
        "method": recipe.method,
        "labels": list(examples.labels) if hasattr(examples.train[0], "label") else None,
        "rows": {"train": len(examples.train), "dev": len(examples.dev)},
        "near_duplicates": examples.near_duplicates,
        "unknown_labels": examples.unknown_labels,
        "held_out": dict(outcome.held_out),
        "truncated": outcome.truncated,
        "tokens": outcome.tokens,
        "seconds": round(outcome.seconds, 3),
    }
