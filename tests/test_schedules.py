"""The CronJob is one that Kubernetes takes, and its steps are verbs with options they know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.verbs import unknown_words

REPOSITORY = Path(__file__).resolve().parent.parent
SCHEDULES = REPOSITORY / "examples" / "schedules"
# What the API of Kubernetes knows of each object, as far as it is used here.
KNOWN: dict[str, set[str]] = {
    "job": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {
        *("schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds", "jobTemplate"),
        *("suspend", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"),
    },
    "job spec": {"backoffLimit", "activeDeadlineSeconds", "template", "ttlSecondsAfterFinished"},
    "pod": {
        *("restartPolicy", "securityContext", "initContainers", "containers", "volumes"),
        *("serviceAccountName", "nodeSelector", "tolerations"),
    },
    "container": {
        *("name", "image", "command", "args", "workingDir", "envFrom", "env", "volumeMounts"),
        *("resources", "imagePullPolicy", "securityContext"),
    },
}


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    (found,) = yaml.safe_load_all((SCHEDULES / "cronjob.yaml").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod(job)["initContainers"], *pod(job)["containers"]]


def test_it_is_a_cron_job(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    spec = job["spec"]
    template = spec["jobTemplate"]["spec"]
    for name, found in (
        ("job", job),
        ("spec", spec),
        ("job spec", template),
        ("pod", pod(job)),
        *(("container", each) for each in containers(job)),
    ):
        assert set(found) <= KNOWN[name]
    minute, hour, *rest = spec["schedule"].split()
    assert 0 <= int(minute) < 60
    assert 0 <= int(hour) < 24
    assert rest == ["*", "*", "*"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert template["backoffLimit"] == 0
    assert pod(job)["restartPolicy"] == "Never"


def test_names_are_such_as_kubernetes_takes_and_volumes_exist(job: dict[str, Any]) -> None:
    names = [job["metadata"]["name"], *(each["name"] for each in containers(job))]
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in names)
    assert len(set(names)) == len(names)
    volumes = {volume["name"] for volume in pod(job)["volumes"]}
    for each in containers(job):
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
        assert each["workingDir"] in {mount["mountPath"] for mount in each["volumeMounts"]}


def test_its_steps_are_verbs_with_options_they_know(job: dict[str, Any]) -> None:
    verbs = []
    for each in containers(job):
        assert each["command"] == ["xlmr"]
        words = [str(word) for word in each["args"]]
        assert words == each["args"]  # a number would have to be quoted
        verbs.append(words[0])
        assert unknown_words(words) == set()
    assert verbs == ["drift", "select", "retrain"]


def test_schedules_stay_short() -> None:
    for path in SCHEDULES.iterdir():
        assert len(path.read_text("utf-8").splitlines()) < 80, path.name
