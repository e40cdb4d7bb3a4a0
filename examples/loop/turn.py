"""One whole turn: traffic drifts, an alarm, labels, a better version, shadow, canary, live.

    python examples/loop/turn.py --data data/topic --encoder models/starter [--json turn.json]

DATA holds `LANGUAGE.SPLIT.jsonl`, rows with `text` and `label`, of several languages, such as
SIB-200's. Rows of one `id` are translations of each other; without ids, those that stand on the
same line of one split. A classifier learns from a few English rows, of which hardly any is about
NEW. It answers on a real server; then people who write LANGUAGE begin to ask about NEW. Each
command is shown before it runs. It ends with 1, and says why, where a step did not do what it
should.

Two things are shorter than in life: the rollout's plan asks for seconds and some dozen requests,
and the watch is told that the hour is over as soon as its traffic is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from house import LEAST_ROWS, NAME, House, People, Row, Rows, TurnError, deal, drifted, write

from xlmr import load
from xlmr.drift.alarms import Alarm
from xlmr.drift.detectors import Budget
from xlmr.drift.keeping import GRACE_S, HOUR_S, DriftStore, Watched
from xlmr.drift.reference import read_reference

PATIENCE_S = 900.0
# A look is a command of its own, and costs as much as some requests.
_LOOK_S = 5.0
WATCHED = Watched(NAME, "1", "classify")


def until(what: str, happened: Any, *, every_s: float = 1.0) -> Any:
    """What a function gives, once it is something.

    Raises:
        TurnError: patience has run out.
    """
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        found = happened()
        if found:
            return found
        time.sleep(every_s)
    raise TurnError(f"{what}: not within {PATIENCE_S:.0f} s")


def check(true: bool, what: str) -> None:
    """Raises TurnError where something is not as it should be."""
    print(f"  {'ok' if true else 'NOT SO'}: {what}", flush=True)
    if not true:
        raise TurnError(f"not so: {what}")


def counted(house: House) -> int:
    """Answers of the first version that the drift store knows of."""
    with contextlib.closing(DriftStore(house.environment["XLMR_FEEDBACK"])) as store:
        return sum(held.rows for held in store.held() if held.watched == WATCHED)


def weigh(house: House, model: Path) -> list[Alarm]:
    """Says that the hour is over; the alarms."""
    reference = read_reference(model)
    assert reference is not None
    with contextlib.closing(DriftStore(house.environment["XLMR_FEEDBACK"])) as store:
        (hour,) = (held.last for held in store.held() if held.watched == WATCHED)
        over_s = (hour + 1) * HOUR_S + GRACE_S + 1
        while store.step(NAME, "1", reference, now_s=over_s, budget=Budget()):
            pass
        return [alarm for _, alarm in store.alarms(WATCHED)]


def release(house: House, rows: Rows, options: argparse.Namespace) -> Path:
    """The first version: trained, given its reference, pushed and live."""
    model = house.root / "first"
    learned = write(house.root / "learned.jsonl", rows.learned)
    recipe = house.root / "recipe.toml"
    words = ("train", "--method", "head", "--encoder", options.encoder, "--train", learned)
    recipe.write_text(house.run(*words, "--out", model, "--show-recipe"), encoding="utf-8")
    house.run("train", recipe, "--out", model)
    usual = [row for row in rows.asked if row.label != options.new]
    shadow = write(house.root / "shadow.jsonl", usual)
    house.run("drift", "reference", model, "--data", shadow, "--source", "shadow", "--mix")
    keys = house.root / "keys"
    house.run("registry", "keygen", keys)
    (keys / "trusted").mkdir()
    for public in keys.glob("*.pem"):
        public.rename(keys / "trusted" / public.name)
    house.run("registry", "push", NAME, model)
    house.run("registry", "alias", f"{NAME}@1", "live", "--override", "the first")
    return model


def label(house: House, people: People, drift: Path, count: int) -> dict[str, Any]:
    """Selects what to label, and labels it as people would who know the test set."""
    batch = house.root / "batch.jsonl"
    said = house.json("select", NAME, batch, "--drift-report", drift, "--count", count)
    lines = [json.loads(line) for line in batch.read_text(encoding="utf-8").splitlines()]
    labelled = [line | {"label": people.labels[line["prediction"]]} for line in lines]
    batch.write_text("".join(json.dumps(line) + "\n" for line in labelled), encoding="utf-8")
    done = house.json("feedback", "import", batch)
    check(done["new"] == len(lines) > 0, f"{len(lines)} rows were selected, and labelled")
    return dict(said)


def roll_out(house: House, people: People, later: Sequence[Row], drift: Path) -> dict[str, Any]:
    """Trains again and waits until the new version is live, while people go on asking."""
    test = house.root / "held-out.jsonl"
    words = ("--run", "--recipe", house.root / "recipe.toml", "--test", test)
    words += ("--drift-report", drift)
    words += ("--policy", house.root / "gate.toml", "--plan", house.root / "plan.toml")
    with people.going_on(later):
        ended = house.json("retrain", NAME, *words, "--least-labels", 50, "--days", 0)
        why = "; ".join(ended["why"])
        check(ended.get("outcome") == "shadow", f"the order was carried out: {why}")
        stages: list[str] = []

        def over() -> Any:
            (status,) = house.json("rollout", "status", quiet=True)
            seen = status["rollout"]
            stage = seen["stage"] if seen["phase"] == "running" else seen["phase"]
            if stage not in stages:
                stages.append(stage)
                print(f"  {stage}: {seen['sentence']}", flush=True)
            return status if seen["phase"] in ("done", "rolled_back") else None

        status = until("the end of the rollout", over, every_s=_LOOK_S)
    check(status["live"] == str(ended["version"]), f"version {ended['version']} is live")
    return {"retrain": ended, "stages": stages, "answered": dict(people.versions)}


def accuracy(model: Path, rows: Sequence[Row]) -> float:
    """Share of rows that a model answers rightly."""
    with load(model) as predictor:
        answers = predictor.classify([row.text for row in rows])
    pairs = zip(answers, rows, strict=True)
    return sum(answer.label == row.label for answer, row in pairs) / len(rows)


def turn(house: House, options: argparse.Namespace) -> dict[str, Any]:
    """The whole of it; the numbers."""
    language, new = options.language, options.new
    rows = deal(options.data, options.languages, new, seed=options.seed)
    counts = Counter(row.language for row in rows.held_out)
    judged = [row for row in rows.held_out if counts[row.language] >= LEAST_ROWS]
    write(house.root / "held-out.jsonl", judged)
    tests = {
        "as at release": [r for r in rows.held_out if r.language == language and r.label != new],
        "drifted": [r for r in drifted(rows.held_out, language, new) if r.language == language],
    }
    first, drift = release(house, rows, options), house.root / "drift.json"
    report = ("drift", "report", f"{NAME}@1", "--json", drift)
    with house.served() as address:
        people = People(address, seed=options.seed)
        people.draw([row for row in rows.asked if row.label != new], options.requests)
        until("counts of all answers", lambda: counted(house) >= people.asked)
        quiet = reported(house, report)
        check(not quiet["tickets"], "nothing drifted while nothing changed")
        people.draw(drifted(rows.asked, language, new), 4 * options.requests)
        until("counts of all answers", lambda: counted(house) >= people.asked)
        alarms = weigh(house, first)
        accused = sorted({f"{alarm.kind} {alarm.language}" for alarm in alarms})
        check(accused == [f"within {language}"], f"alarms name {', '.join(accused) or 'nobody'}")
        seen = reported(house, report)
        selected = label(house, people, drift, options.labels)
        rolled = roll_out(house, people, drifted(rows.held_out, language, new), drift)
    second = house.root / "second"
    house.run("registry", "pull", f"{NAME}@{rolled['retrain']['version']}", "--out", second)
    share = {
        name: {test: accuracy(model, rows) for test, rows in tests.items()}
        for name, model in (("first", first), ("second", second))
    }
    lost = share["first"]["as at release"] - share["first"]["drifted"]
    regained = share["second"]["drifted"] - share["first"]["drifted"]
    found = {
        "language": language,
        "new": new,
        "learned": len(rows.learned),
        "requests": people.asked,
        "answered_by": people.versions,
        "alarms": [alarm.to_json() for alarm in alarms],
        "estimated": next(
            each["accuracy"] for each in seen["languages"] if each["language"] == language
        ),
        "selected": selected,
        **rolled,
        "test_rows": {test: len(rows) for test, rows in tests.items()},
        "accuracy": share,
        "lost": lost,
        "regained": regained,
    }
    tell(found)
    check(lost >= 0.1, "the drift cost accuracy")
    check(regained >= lost / 2.0, "at least half of it is back")
    return found


def reported(house: House, report: Sequence[object]) -> dict[str, Any]:
    """What `xlmr drift report` says of all that was counted so far."""
    house.run(*report)
    found: dict[str, Any] = json.loads(Path(str(report[-1])).read_text(encoding="utf-8"))
    return found


def tell(found: dict[str, Any]) -> None:
    """The numbers, for people."""
    print(f"\naccuracy in {found['language']}, test set   as at release   drifted")
    for name, share in found["accuracy"].items():
        print(f"  {name:27}{share['as at release']:14.1%}{share['drifted']:10.1%}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; 0 where the turn came round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="LANGUAGE.SPLIT.jsonl")
    parser.add_argument("--encoder", type=Path, required=True, help="such as the starter")
    parser.add_argument("--languages", nargs="+", default=["en", "de", "tr"])
    parser.add_argument("--language", default="tr", help="in which traffic drifts")
    parser.add_argument("--new", default="politics", help="the label that is asked for then")
    parser.add_argument(
        "--requests", type=int, default=150, help="before; four times as many after"
    )
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="where everything lies; must not be there yet")
    parser.add_argument("--json", type=Path, help="the numbers")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="xlmr-turn-") as scratch:
            found = turn(House(options.state or Path(scratch) / "house"), options)
    except TurnError as fault:
        print(f"turn: {fault}", file=sys.stderr)
        return 1
    found["seconds"] = round(time.monotonic() - began, 1)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\nturn: ok, {found['requests']} requests in {found['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
