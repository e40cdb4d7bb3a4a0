"""`xlmr compress`: a smaller, faster model that says the same in the languages that are needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from xlmr.cli.progress import TokenBar
from xlmr.evaluation.figures import in_words
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.settings import Settings
from xlmr.training.checkpoint import check_target
from xlmr.training.costs import Cost
from xlmr.training.loop import Step
from xlmr.training.recipe import Recipe, make_recipe, set_values
from xlmr.training.shrink import Continued, Fact, Plan, Trimmed, compress
from xlmr.training.texts import Texts, read_texts
from xlmr.training.trial import read_trial

# What a student's run takes where nothing else is said: it follows a teacher, which forgives a
# higher rate than labels do.
_DEFAULTS = {
    # Texts in a language may lack words that others will have: all keep the place they had.
    "optimizer.train_embeddings": "none",
    "run.epochs": 2,
    "run.max_tokens": 128,
    "optimizer.learning_rate": 4e-4,
}


@click.command("compress")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory to write.")
@click.option(
    "--languages",
    metavar="CODES",
    help="Keep only the vocabulary that these need: en,de,zh.",
)
@click.option(
    "--texts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="What the vocabulary is counted on: a file, or a folder that is searched for "
    "LANGUAGE.SPLIT.jsonl (or another ending; dev and test are left out); may be repeated.",
)
@click.option(
    "--min-uses",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Drop pieces that the texts use less often; above 1 these texts too may be cut otherwise.",
)
@click.option("--layers", type=click.IntRange(min=1), help="Drop layers down to so many.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="What the model with fewer layers learns from, without labels.  [as --texts]",
)
@click.option("--most-texts", type=click.IntRange(min=2), help="Learn from at most so many.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over them.  [2]")
@click.option("--seed", type=click.IntRange(min=0), help="[0]")
@click.option(
    "--set",
    "said",
    multiple=True,
    metavar="KEY=VALUE",
    help="Anything else of a recipe's run and optimizer: optimizer.learning_rate=2e-4.",
)
@click.option(
    "--eval",
    "eval_path",
    type=click.Path(path_type=Path),
    help="Labelled rows to score each step on, by language, as `xlmr evaluate` does: of any task "
    "that the model has; plain texts for one that fills masks.",
)
@click.option("--eval-split", default="test", show_default=True, help="Which files of a folder.")
@click.option("--force", is_flag=True, help="Replace a model that is already in --out.")
@click.option("--fresh", is_flag=True, help="Forget an unfinished run instead of continuing it.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def compress_command(
    model: Path,
    out: Path,
    languages: str | None,
    texts: tuple[Path, ...],
    min_uses: int,
    layers: int | None,
    data: tuple[Path, ...],
    most_texts: int | None,
    eval_path: Path | None,
    eval_split: str,
    force: bool,
    fresh: bool,
    as_json: bool,
    **recipe_options: Any,
) -> None:
    """Make a model smaller and faster, and say what that costs in each language.

    \b
    Only the vocabulary of three languages; texts in them are read as before:
      xlmr compress models/router --languages en,de,zh --texts data --out models/small
    \b
    Half the layers as well; what remains learns from the model what the model does:
      xlmr compress models/e5 --languages en,de,zh --texts data --layers 6 \\
          --eval data/tatoeba --out models/e5-half

    Every step is measured on the native engine beside the model it began with. Scores of
    candidates for a mask add up over the pieces that are left. A calibration is carried along as
    it is: after layers were dropped, fit it again. A run that was killed continues when it is
    started again; how it went is told in OUT.run.
    """
    wanted = tuple(code for part in (languages or "").split(",") if (code := part.strip()))
    if wanted and not texts:
        raise click.UsageError("--languages needs --texts: pieces are counted, not guessed")
    if layers is not None and not (data or texts):
        raise click.UsageError("--layers needs --data (or --texts) to learn from")
    settings = Settings.from_environment()
    check_target(out, encoder=model, force=force)
    bundle = open_bundle(model, cache_dir=settings.cache_dir)
    plan = Plan(wanted, min_uses, layers, most_texts, _recipe(bundle, model, recipe_options))
    plan.check(bundle)
    trial = read_trial(eval_path, eval_split, wanted, bundle) if eval_path else None
    counted = read_texts(texts or data, wanted)
    learned = read_texts(data, wanted) if data and texts else counted
    show = _Show(layers, quiet=as_json)
    with show.counting as bar:
        facts = compress(
            bundle,
            plan,
            counted,
            learned,
            trial,
            out,
            settings=settings,
            force=force,
            fresh=fresh,
            counted=lambda done, tokens: bar.advance(done=done, tokens=tokens),
        )
        for fact in facts:
            show.tell(fact)
    show.conclude(out, wanted, counted)


def _recipe(bundle: Bundle, model: Path, options: dict[str, Any]) -> Recipe:
    """How a student learns. Its task is a name only: it learns whatever the model does."""
    for pair in options["said"]:
        if not pair.startswith(("run.", "optimizer.")):
            raise click.UsageError(f"--set {pair}: only run.… and optimizer.… can be set here")
    task = next(t for t in ("classify", "tag", "answer", "fill", "embed") if t in bundle.tasks)
    values = set_values(
        {"task": task, "encoder": str(model), "method": "full", "data": {"train": ""}},
        [
            *(f"{key}={value}" for key, value in _DEFAULTS.items()),
            *(f"run.epochs={options['epochs']}" for _ in [0] if options["epochs"]),
            *(f"seed={options['seed']}" for _ in [0] if options["seed"] is not None),
            *options["said"],
        ],
    )
    return make_recipe(values, origin="--set")


class _Show:
    """Shows facts as they come."""

    def __init__(self, layers: int | None, *, quiet: bool) -> None:
        self._quiet, self._layers = quiet, layers
        self.counting = TokenBar("counting pieces")
        self._learning: TokenBar | None = None
        self._told: dict[str, Any] = {}
        self._costs: Sequence[Cost] = ()

    def tell(self, fact: Fact) -> None:
        """One of them."""
        if isinstance(fact, Step):
            self._step(fact)
            return
        if self._learning is not None:
            self._learning.__exit__(None, None, None)
            self._learning = None
        if isinstance(fact, Trimmed):
            self._told["trimmed"] = asdict(fact)
            self._say(
                f"{fact.pieces:,} of {fact.before:,} pieces kept ({fact.texts:,} texts). Share of "
                "tokens cut otherwise in texts that were not counted: "
                + ", ".join(f"{k} {v:.1%}" for k, v in fact.changed.items())
            )
        elif isinstance(fact, Continued):
            self._say(f"an unfinished run continues ({fact.path})")
        else:
            self._costs = fact

    def conclude(self, out: Path, languages: Sequence[str], texts: Texts) -> None:
        """At the end."""
        if self._quiet:
            costs = [asdict(cost) for cost in self._costs]
            said = {"model": str(out), "languages": list(languages or texts.languages)}
            click.echo(json.dumps(said | self._told | {"steps": costs}, indent=2))
            return
        console = Console(width=None if Console().is_terminal else 200)
        console.print(_size_table(self._costs))
        console.print(_language_table(self._costs))
        click.echo(str(out))

    def _step(self, step: Step) -> None:
        if self._learning is None:
            self._learning = TokenBar(f"learning with {self._layers} layers")
        note = f"loss {step.loss:.3f}"
        if step.dev is not None:
            self._told.setdefault("learning", []).append(
                {"epoch": step.epoch, step.dev.metric: step.dev.macro, "loss": step.loss}
            )
            self._learning.advance(done=step.done, tokens=step.tokens, note=note)
            self._say(f"epoch {step.epoch}: {step.dev.metric} {step.dev.macro:.4f}")
            return
        self._learning.advance(done=step.done, tokens=step.tokens, note=note)

    def _say(self, line: str) -> None:
        if not self._quiet:
            click.echo(line)


def _size_table(costs: Sequence[Cost]) -> Table:
    table = Table(title="Size and speed")
    for name in ("model", "precision", "layers", "pieces", "stored", "in the engine", "tokens/s"):
        table.add_column(name, justify="left" if name in ("model", "precision") else "right")
    table.add_column("speed", justify="right")
    for cost in costs:
        table.add_row(
            cost.step,
            cost.precision,
            str(cost.layers),
            f"{cost.pieces:,}",
            f"{cost.stored_bytes / 1e6:,.1f} MB",
            f"{cost.prepared_bytes / 1e6:,.1f} MB",
            f"{cost.tokens_per_second:,.0f}",
            f"{cost.tokens_per_second / costs[0].tokens_per_second:.2f}x",
        )
    return table


def _language_table(costs: Sequence[Cost]) -> Table:
    """Scores where there are labelled rows, and how far answers stayed the same."""
    first = costs[0]
    table = Table(title=f"By language: {in_words(first.metric) or first.agreement_metric}")
    table.add_column("language")
    for cost in costs:
        table.add_column(f"{cost.step} {cost.precision}", justify="right")
    for figures in filter(None, ([c.scores or {} for c in costs], [c.agreement for c in costs])):
        if not figures[0]:
            continue
        for language in figures[0]:
            table.add_row(language, *(f"{by_language[language]:.4f}" for by_language in figures))
        table.add_row("macro", *(f"{np.mean(list(f.values())):.4f}" for f in figures))
        table.add_section()
    if first.metric:
        table.caption = f"below: {first.agreement_metric} with the original, on texts not learned"
    return table
