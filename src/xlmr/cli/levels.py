"""`xlmr levels`: from what a service promises to rules, routes of alerts, and dashboards."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import click

from xlmr.errors import SettingsError
from xlmr.levels.files import ALERTMANAGER, KINDS, RULES, RULES_TEST, Kind, files_of
from xlmr.levels.objectives import DEFAULT_OBJECTIVES, Objectives, parse_objectives

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_out = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("monitoring"),
    show_default=True,
    help="Where the files lie; made where it is missing.",
)
# Who checks what; both come with Debian's prometheus and prometheus-alertmanager.
_CHECKS = (
    ("promtool", ("check", "rules"), RULES),
    ("promtool", ("test", "rules"), RULES_TEST),
    ("amtool", ("check-config",), ALERTMANAGER),
)
_PATIENCE_S = 300


@click.group("levels")
def levels_command() -> None:
    """Say what a service promises; Prometheus, Alertmanager and Grafana are told from that.

    \b
      xlmr levels init > levels.toml        every key, and what it means
      $EDITOR levels.toml
      xlmr levels rules levels.toml         monitoring/rules.yaml, and hours that test it
      xlmr levels alertmanager levels.toml  monitoring/alertmanager.yaml
      xlmr levels dashboards levels.toml    monitoring/dashboards/*.json
      xlmr levels check levels.toml         are they what the file says, and do tools take them?

    People are told when a promise is being broken so fast that it matters, not when a number is
    high. docs/levels.md goes from the promise to the page at night, and says what to do then.
    """


@levels_command.command()
def init() -> None:
    """Print a file of objectives to begin with."""
    click.echo(DEFAULT_OBJECTIVES, nl=False)


@levels_command.command()
@_file
@_out
def rules(file: Path, out: Path) -> None:
    """Write Prometheus' rules and their test.

    `promtool test rules` holds rules.yaml against the hours that rules.test.yaml plays.
    """
    _write("rules", file, out)


@levels_command.command()
@_file
@_out
def alertmanager(file: Path, out: Path) -> None:
    """Write who is told, and when nobody is: Alertmanager's configuration."""
    _write("alertmanager", file, out)


@levels_command.command()
@_file
@_out
def dashboards(file: Path, out: Path) -> None:
    """Write Grafana's dashboards: executive, on-call, debug."""
    _write("dashboards", file, out)


@levels_command.command()
@_file
@_out
def check(file: Path, out: Path) -> None:
    """Hold the files against FILE and the tools.

    Those of Prometheus and Alertmanager, where they are installed: promtool and amtool.

    What was not written yet is not held against it. Ends with 1 where something is wrong.
    """
    objectives = _read(file)
    click.echo(f"{file}: can be read")
    wrong = False
    for kind in KINDS:
        for name, text in files_of(objectives, kind).items():
            path = out / name
            if not path.exists():
                click.echo(f"{path}: not written yet (xlmr levels {kind} {file})")
            elif _text_of(path) == text:
                click.echo(f"{path}: says what {file} says")
            else:
                wrong = True
                click.echo(f"{path}: is not what {file} says; run xlmr levels {kind} {file}")
    for tool, words, name in _CHECKS:
        if (out / name).exists():
            wrong |= not _passes(tool, words, out / name)
    if wrong:
        raise SystemExit(1)


def _read(file: Path) -> Objectives:
    return parse_objectives(_text_of(file), origin=str(file))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None


def _write(kind: Kind, file: Path, out: Path) -> None:
    """Each file is whole at any moment: Prometheus may read it while it is replaced."""
    for name, text in files_of(_read(file), kind).items():
        path = out / name
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                fresh.write_text(text, encoding="utf-8")
                os.replace(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as fault:
            raise SettingsError(
                f"{path}: {fault.strerror}", hint="what stood there before still does"
            ) from None
        click.echo(path)


def _passes(tool: str, words: tuple[str, ...], path: Path) -> bool:
    """Whether a tool takes a file; a tool that is not there does."""
    program = shutil.which(tool)
    if program is None:
        click.echo(f"{path}: not checked, {tool} is not installed")
        return True
    done = subprocess.run(
        [program, *words, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    said = f"{tool} {' '.join(words)}"
    click.echo(f"{path}: {said} {'passes' if done.returncode == 0 else 'fails'}")
    if done.returncode:
        click.echo(done.stdout + done.stderr)
    return done.returncode == 0
