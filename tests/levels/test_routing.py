from __future__ import annotations

import shutil
import subprocess

import pytest

from xlmr.levels.files import ALERTMANAGER, files_of
from xlmr.levels.routing import alertmanager_document

ROUTER = {"model": "router", "version": "3"}


@pytest.fixture(params=["usual", "full"])
def written(request, tmp_path):
    objectives = request.getfixturevalue(request.param)
    path = tmp_path / ALERTMANAGER
    path.write_text(files_of(objectives, "alertmanager")[ALERTMANAGER])
    return path


def amtool(*words):
    program = shutil.which("amtool")
    if program is None:
        pytest.skip("amtool is not installed: run `make services` as root")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def test_amtool_takes_it(written):
    done = amtool("check-config", str(written))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"severity": "page", "category": "levels"}, "night"),
        ({"severity": "page", "category": "levels", "region": "eu"}, "night"),
        ({"severity": "ticket", "category": "levels", **ROUTER}, "day"),
        ({"severity": "ticket", "category": "quality", **ROUTER}, "intents"),
        ({"severity": "ticket", "category": "quality", **ROUTER, "region": "eu"}, "intents"),
        ({"severity": "ticket", "category": "quality", "model": "tagger"}, "names"),
        ({"severity": "ticket", "category": "quality", "model": "other"}, "day"),
        ({}, "day"),
    ],
)
def test_everybody_is_told_what_is_theirs(labels, receiver, full, tmp_path):
    path = tmp_path / ALERTMANAGER
    path.write_text(files_of(full, "alertmanager")[ALERTMANAGER])
    words = [f"{label}={value}" for label, value in labels.items()]
    done = amtool("config", "routes", "test", f"--config.file={path}", *words)
    assert done.stdout.strip() == receiver, done.stderr


def test_one_notification_for_a_version_in_a_region(full):
    route = alertmanager_document(full)["route"]
    assert route["group_by"] == ["model", "version", "region"]
    assert all("group_by" not in below for below in route["routes"])


def test_nobody_is_told_in_maintenance_where_it_is(full):
    for route in alertmanager_document(full)["route"]["routes"]:
        assert route["mute_time_intervals"] == ["move"]
        (below,) = route["routes"]
        assert below["matchers"] == ['region="eu"']
        assert below["mute_time_intervals"] == ["index", "move"]


def test_a_night_goes_on_on_the_next_day(full):
    intervals = {
        i["name"]: i["time_intervals"] for i in alertmanager_document(full)["time_intervals"]
    }
    saturday, sunday = intervals["index"]
    assert saturday["weekdays"] == ["saturday"]
    assert saturday["times"] == [{"start_time": "23:00", "end_time": "24:00"}]
    assert sunday["weekdays"] == ["sunday"]
    assert sunday["times"] == [{"start_time": "00:00", "end_time": "02:00"}]
    assert saturday["location"] == sunday["location"] == "Europe/Berlin"
    new_year = intervals["move"][1]
    assert (new_year["years"], new_year["months"], new_year["days_of_month"]) == (
        ["2027"],
        ["1"],
        ["1"],
    )


def test_without_maintenance_nothing_is_muted(usual):
    document = alertmanager_document(usual)
    assert "time_intervals" not in document
    assert "mute_time_intervals" not in str(document)
