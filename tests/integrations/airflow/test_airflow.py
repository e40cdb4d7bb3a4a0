"""The DAG as Airflow loads it; and every command in it, as `xlmr` takes it."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.verbs import unknown_words

DAG = Path(__file__).resolve().parents[3] / "examples" / "schedules" / "airflow_dag.py"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Airflow writes into its home as soon as it is imported."""
    os.environ["AIRFLOW_HOME"] = str(tmp_path_factory.mktemp("airflow"))
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAG.parent)


def loaded() -> Any:
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(DAG))


def test_airflow_loads_it_without_a_word_of_complaint() -> None:
    bag = loaded()
    assert bag.import_errors == {}
    assert list(bag.dags) == ["xlmr_router"]
    dag = bag.dags["xlmr_router"]
    assert not dag.catchup
    assert dag.max_active_runs == 1
    order = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert order == {
        "expire": ["report"],
        "report": ["retrain", "select"],
        "select": [],
        "retrain": [],
    }
    assert dag.get_task("retrain").retries == 0
    assert all(task.cwd == "/srv/xlmr" and task.append_env for task in dag.tasks)


def commands() -> list[list[str]]:
    bag = loaded()
    said = [task.bash_command for task in bag.dags["xlmr_router"].tasks]
    return [shlex.split(part) for each in said for part in each.split("&&") if "xlmr " in part]


def test_its_commands_are_verbs_with_options_they_know() -> None:
    found = commands()
    assert [words[:2] for words in found] == [
        ["xlmr", "feedback"],
        ["xlmr", "drift"],
        ["xlmr", "select"],
        ["xlmr", "retrain"],
    ]
    assert [unknown_words(words[1:]) for words in found] == [set()] * 4


def test_a_task_runs_where_the_place_is(tmp_path: Path) -> None:
    """The first one for real: its verb is found, and does its work."""
    command = loaded().dags["xlmr_router"].get_task("expire").bash_command
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XLMR_FEEDBACK": str(tmp_path / "feedback.db"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "removed 0 records" in done.stdout


def test_its_model_and_place_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLMR_LOOP_MODEL", "spam")
    monkeypatch.setenv("XLMR_LOOP_PLACE", "/data")
    monkeypatch.syspath_prepend(str(DAG.parent))
    dag = importlib.import_module("airflow_dag").dag
    assert dag.dag_id == "xlmr_spam"
    assert {task.cwd for task in dag.tasks} == {"/data"}
    assert "xlmr drift report spam" in dag.get_task("report").bash_command
