"""`xlmr train` and the transformers example scripts, fine-tuned in English, scored everywhere.

    python benchmarks/training.py --scripts transformers/examples/pytorch --model models/starter \\
        --data data --python peers/bin/python --task topic ner --threads 2

Both sides get the same rows, the same model and as many epochs, and neither sees dev rows. What
they write is scored by `xlmr evaluate` at the same precision, so that one yardstick holds for both.
With `--rounds` each then trains one epoch that often, taking turns. Everything measured is kept in
the `--work` folder as it comes; a second run goes on from there. `--train-rows` and `--test-rows`
make all of it a matter of minutes, to see that it works: its figures then say nothing.

`--data` holds `<task>/<dataset>/<language>.<split>.jsonl`. `--python` is an interpreter with torch,
transformers, datasets, evaluate and accelerate; the scripts run as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from training_jobs import JOBS, Job, prepare, write_metrics
from training_page import render

from xlmr.evaluation.speed.machine import describe_machine
from xlmr.model.runtimes.processors import usable_processors

_VERSIONS = """
import importlib.metadata as metadata, json
found = {each.name: each.version for each in metadata.distributions()}
names = ("torch", "transformers", "accelerate", "datasets")
print(json.dumps({name: found[name] for name in names if name in found}))
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all jobs have in common.

    Attributes:
        scripts: `examples/pytorch` of a checkout of transformers.
        model: the directory both sides start from; the scripts need its tokenizer files too.
        data: the data folder.
        work: where everything is written.
        python: the scripts' interpreter.
        epochs: of both sides.
        seed: of both sides.
        threads: of both sides.
        precision: what both sides' models are scored in.
        train_rows: from the first, fewer than a task's own; 0 for those.
        test_rows: of each language; 0 for all.
    """

    scripts: Path
    model: Path
    data: Path
    work: Path
    python: Path
    epochs: int
    seed: int
    threads: int
    precision: str
    train_rows: int
    test_rows: int

    def script(self, job: Job, out: Path, arguments: Sequence[str]) -> dict[str, Any]:
        """Trains with the script; its own seconds, and those of the whole command."""
        command = [
            *(str(self.python), str(self.scripts / job.script)),
            *("--model_name_or_path", str(self.model), "--output_dir", str(out), "--do_train"),
            *("--train_file", str(self.work / job.name / "script" / "train.json")),
            *("--num_train_epochs", str(self.epochs), "--seed", str(self.seed)),
            *("--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"),
            *(job.script_arguments(self.work / job.name / "script")),
            *arguments,
        ]
        wall = self._run(command, out)
        told = json.loads((out / "train_results.json").read_text("utf-8"))
        return {
            "command": _shown(command, self),
            "seconds": told["train_runtime"],
            "wall_seconds": wall,
            "epochs": told["epoch"],
        }

    def ours(self, job: Job, out: Path, arguments: Sequence[str]) -> dict[str, Any]:
        """Trains with `xlmr train`; its own seconds, and those of the whole command."""
        command = [
            *(sys.executable, "-m", "xlmr", "train", "--task", job.task, "--method", "full"),
            *("--encoder", str(self.model), "--train", str(self.work / job.name / "train")),
            *("--epochs", str(self.epochs), "--seed", str(self.seed)),
            *("--out", str(out), "--force", "--fresh", *arguments),
        ]
        wall = self._run(command, out)
        told = json.loads((out.with_name(out.name + ".run") / "record.json").read_text("utf-8"))
        return {
            "command": _shown(command, self),
            "seconds": told["seconds"],
            "wall_seconds": wall,
            "epochs": self.epochs,
        }

    def score(self, job: Job, model: Path) -> dict[str, Any]:
        """Every language of every test set, and the mean of all."""
        languages: dict[str, Any] = {}
        metric = ""
        for number, (dataset, _) in enumerate(job.tests):
            page = model.with_name(f"scores-{model.name}-{number}.json")
            data = self.work / job.name / "test" / dataset
            command = [sys.executable, "-m", "xlmr", "evaluate", str(model), "--task", job.task]
            self._run([*command, "--data", str(data), "--json", str(page)], page)
            told = json.loads(page.read_text("utf-8"))
            metric = told["metric"]
            for language in told["languages"]:
                name = language["language"]
                key = f"{Path(dataset).name}:{name}" if len(job.tests) > 1 else name
                languages[key] = {"n": language["n"], "value": language["value"]}
        macro = statistics.fmean(language["value"] for language in languages.values())
        return {"metric": metric, "macro": macro, "languages": dict(sorted(languages.items()))}

    def _run(self, command: Sequence[str], out: Path) -> float:
        """Seconds of the whole command; what it says goes into a file beside `out`."""
        threads = str(self.threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "XLMR_THREADS": threads,
            "XLMR_PRECISION": self.precision,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        log = out.with_name(out.name + ".log")
        started = time.perf_counter()
        with log.open("w", encoding="utf-8") as said:
            # The scripts look for their metrics where they stand.
            done = subprocess.run(
                command,
                cwd=self.work / "metrics",
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise SystemExit(f"{command[1]} ended with {done.returncode}; see {log}")
        return round(time.perf_counter() - started, 1)


def main() -> None:
    """Runs what is not measured yet, then writes the page."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    write_metrics(options.work / "metrics")
    bench = Bench(
        scripts=options.scripts.resolve(),
        model=options.model.resolve(),
        data=options.data.resolve(),
        work=options.work.resolve(),
        # Not resolved: the link is what makes it a virtual environment's.
        python=Path(os.path.abspath(options.python)),
        epochs=options.epochs,
        seed=options.seed,
        threads=options.threads,
        precision=options.precision,
        train_rows=options.train_rows,
        test_rows=options.test_rows,
    )
    _hold_settings(bench)
    for name in options.task:
        _job(JOBS[name], bench, options)
    measured = _gather(bench)
    (options.work / "training.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    page = render(measured)
    if options.page is None:
        print(page, end="")
    else:
        options.page.write_text(page, encoding="utf-8")
        _tell(f"wrote {options.page}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scripts", type=Path, required=True, help="examples/pytorch")
    parser.add_argument("--model", type=Path, required=True, help="what both sides start from")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/bench/training"))
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--task", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=usable_processors())
    parser.add_argument("--precision", default="fp32", choices=["int8", "bf16", "fp32"])
    parser.add_argument("--train-rows", type=int, default=0, help="at most; 0: the task's own")
    parser.add_argument("--test-rows", type=int, default=0, help="of each language; 0: all")
    parser.add_argument("--rates", nargs="+", default=["5e-5", "2e-4"], help="of the scripts")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="[TASK:]KEY=VALUE", help="of our recipes"
    )
    parser.add_argument("--rounds", type=int, default=0, help="of one epoch each, for the time")
    parser.add_argument("--page", type=Path, help="where the tables go; else to stdout")
    return parser.parse_args()


def _job(job: Job, bench: Bench, options: argparse.Namespace) -> None:
    folder = bench.work / job.name
    rows = prepare(job, bench.data, folder, train_rows=bench.train_rows, test_rows=bench.test_rows)
    ours = our_arguments(job.name, options.set)

    def quality(train: Callable[..., dict[str, Any]], out: Path, said: list[str]) -> dict[str, Any]:
        return train(job, out, said) | bench.score(job, out) | {"rows": rows}

    _once(folder / "ours.json", partial(quality, bench.ours, folder / "ours", ours))
    for rate in options.rates:
        said = ["--learning_rate", rate]
        name = f"script-{rate}"
        _once(folder / f"{name}.json", partial(quality, bench.script, folder / name, said))
    if options.rounds:
        _once(folder / "rounds.json", partial(_rounds, job, bench, ours, options.rounds))


def our_arguments(task: str, values: Sequence[str]) -> list[str]:
    """The `--set` options for one task: those with its name in front, and those with none."""
    said = []
    for value in values:
        name, colon, rest = value.partition(":")
        if not colon or name not in JOBS:
            said += ["--set", value]
        elif name == task:
            said += ["--set", rest]
    return said


def _rounds(job: Job, bench: Bench, ours: list[str], rounds: int) -> dict[str, Any]:
    """One epoch each, taking turns; who begins changes."""
    folder = bench.work / job.name
    once = Bench(**{name: getattr(bench, name) for name in bench.__slots__} | {"epochs": 1})
    taken: dict[str, list[dict[str, Any]]] = {"ours": [], "script": []}
    runners = {
        "ours": partial(once.ours, job, folder / "epoch-ours", ours),
        "script": partial(once.script, job, folder / "epoch-script", []),
    }
    for number in range(rounds):
        for name in sorted(runners, reverse=bool(number % 2)):
            _tell(f"{job.name}: one epoch, {name}")
            taken[name].append(runners[name]())
    ratios = [
        script["seconds"] / mine["seconds"]
        for mine, script in zip(taken["ours"], taken["script"], strict=True)
    ]
    return {
        "threads": bench.threads,
        "ours_seconds": [each["seconds"] for each in taken["ours"]],
        "script_seconds": [each["seconds"] for each in taken["script"]],
        "ours_wall_seconds": [each["wall_seconds"] for each in taken["ours"]],
        "script_wall_seconds": [each["wall_seconds"] for each in taken["script"]],
        "times_faster": statistics.median(ratios),
    }


def _hold_settings(bench: Bench) -> None:
    """A work folder holds figures of one budget: those of another would be taken for them.

    Raises:
        SystemExit: it was measured with other settings; says which.
    """
    names = ("epochs", "seed", "threads", "precision", "train_rows", "test_rows")
    said = {name: getattr(bench, name) for name in names}
    path = bench.work / "settings.json"
    kept = json.loads(path.read_text("utf-8")) if path.exists() else said
    if kept != said:
        other = ", ".join(
            f"{name} {kept.get(name)}" for name in names if kept.get(name) != said[name]
        )
        raise SystemExit(f"{bench.work}: measured with {other}; say another --work")
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _once(path: Path, measure: Callable[[], Mapping[str, Any]]) -> None:
    """Measures unless that was done; the figure is kept whole or not at all."""
    if path.exists():
        _tell(f"{path}: kept from an earlier run")
        return
    _tell(f"{path.parent.name}: {path.stem}")
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def _gather(bench: Bench) -> dict[str, Any]:
    """All that the work folder holds, of this run and of earlier ones."""
    tasks: dict[str, Any] = {}
    for name in JOBS:
        found = {
            path.stem: json.loads(path.read_text("utf-8"))
            for path in sorted((bench.work / name).glob("*.json"))
            if path.stem in ("ours", "rounds") or path.stem.startswith("script-")
        }
        if found:
            tasks[name] = {"title": JOBS[name].title, "trained_on": JOBS[name].train} | found
    told = subprocess.run(
        [str(bench.python), "-c", _VERSIONS], check=True, capture_output=True, text=True
    )
    return {
        "machine": describe_machine(),
        "versions": json.loads(told.stdout),
        "epochs": bench.epochs,
        "seed": bench.seed,
        "threads": bench.threads,
        "precision": bench.precision,
        "train_rows": bench.train_rows,
        "test_rows": bench.test_rows,
        "tasks": tasks,
    }


def _shown(command: Sequence[str], bench: Bench) -> str:
    """A command without where things lie on this machine."""
    places = {
        str(bench.work): "WORK",
        str(bench.scripts): "SCRIPTS",
        str(bench.model): "MODEL",
        str(bench.python): "python",
        sys.executable: "python",
    }
    shown = " ".join(command)
    for place, name in places.items():
        shown = shown.replace(place, name)
    return shown


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
