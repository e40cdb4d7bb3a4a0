"""`xlmr`: the verbs of a model's life. Each command's module is imported when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from xlmr import __version__
from xlmr.errors import XlmrError
from xlmr.settings import keep_blas_out_of_the_way

# verb → where its command lives, and one line for `xlmr --help`; in the order of a model's life.
_COMMANDS = {
    "import": ("xlmr.cli.import_:import_command", "Bring a checkpoint in as a model directory."),
    "train": ("xlmr.cli.train:train_command", "Make a model from labelled examples."),
    "evaluate": ("xlmr.cli.evaluate:evaluate_command", "Score a model, language by language."),
    "compress": ("xlmr.cli.compress:compress_command", "Make a model smaller and faster."),
    "gate": ("xlmr.cli.gate:gate_command", "Decide whether a model may be released."),
    "registry": ("xlmr.cli.registry:registry_command", "Keep versions; promote and go back."),
    "rollout": ("xlmr.cli.rollout:rollout_command", "Bring a version live step by step."),
    "serve": ("xlmr.cli.serve:serve", "Answer over HTTP."),
    "levels": ("xlmr.cli.levels:levels_command", "Make alerts and dashboards from promises."),
    "top": ("xlmr.cli.top:top_command", "Watch one server."),
    "keys": ("xlmr.cli.keys:keys_command", "Make and revoke the keys of a server."),
    "feedback": (
        "xlmr.cli.feedback:feedback_command",
        "Keep what answers leave behind, and labels for them.",
    ),
    "drift": ("xlmr.cli.drift:drift_command", "See what moved, and what it likely cost."),
    "select": ("xlmr.cli.select:select_command", "Pick what to label next."),
    "retrain": ("xlmr.cli.retrain:retrain_command", "Train again, where there is reason to."),
    "incident": ("xlmr.cli.incident:incident_command", "Gather what happened, and what to do."),
    "bench": ("xlmr.cli.bench:bench_command", "Measure this installation, beside its peers."),
}


class _Verbs(click.Group):
    """A group that imports a command only when it is needed, so `xlmr --help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in _COMMANDS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xlmr")
def cli() -> None:
    """XLM-RoBERTa in production: import, train, prove, serve.

    \b
    A first model in three commands:
      xlmr import starter --out models/starter
      xlmr train --method head --encoder models/starter --train en.jsonl --out models/router
      xlmr serve models/router
    """


def main() -> None:
    """The console entry point: errors of ours end in one clear message and exit code 1."""
    keep_blas_out_of_the_way()
    try:
        cli()
    except XlmrError as error:
        click.echo(f"xlmr: {error}", err=True)
        sys.exit(1)
