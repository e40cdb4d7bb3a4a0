"""`xlmr registry export` and `import`: versions handed to others' registries, and taken back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from xlmr.cli.registry_place import json_option, opened, place_options, reason_option, say
from xlmr.registry.exchange import exchange_at, export_version, import_version

_PLACES = "hf:DIRECTORY or mlflow:MODEL"


@click.command("export")
@click.argument("version")
@click.option("--to", "place", required=True, metavar="PLACE", help=_PLACES)
@click.option("--force", is_flag=True, help="Replace the model that is in the directory.")
@place_options("trusted_keys")
@json_option
def export_command(version: str, place: str, force: bool, as_json: bool, **options: Any) -> None:
    """Hand VERSION over: hf:DIRECTORY, or mlflow:MODEL on the server of MLFLOW_TRACKING_URI.

    Manifest and signature go with it, so that `import` takes it back as what it was.
    """
    exchange = exchange_at(place, force=force)
    with opened(options, bars=True) as registry:
        row = registry.resolve(version)
        sent = export_version(registry, row, exchange)
    for each in sent.left_out:
        click.echo(f"note: {place} cannot take {each}", err=True)
    text = f"{row.name}@{row.version} is in {sent.place}"
    say(asdict(row) | {"to": sent.place, "left_out": sent.left_out}, text, as_json=as_json)


@click.command("import")
@click.argument("name")
@click.option(
    "--from", "place", required=True, metavar="PLACE", help=f"{_PLACES}[@VERSION or @ALIAS]"
)
@reason_option
@place_options("sign_key")
@json_option
def import_command(name: str, place: str, reason: str, as_json: bool, **options: Any) -> None:
    """Take what `export` handed over as the next version of NAME, checked against its manifest.

    A checkpoint of somebody else comes in by `xlmr import`, then `xlmr registry push`.
    """
    exchange = exchange_at(place)
    with opened(options, bars=True) as registry:
        row = import_version(registry, name, exchange, reason=reason)
    say(asdict(row), f"{name}@{row.version}  {row.digest}", as_json=as_json)
