"""A server that watches what it answers against a reference in its model's directory."""

from __future__ import annotations

import shutil

import pytest
from tests.serving.conftest import running

from xlmr.drift.keeping import DriftStore, Watched, total
from xlmr.drift.reference import REFERENCE_FILE, freeze, write_reference
from xlmr.drift.signals import Sight, Signals
from xlmr.errors import ModelRefusedError

LABELS = ("delivery", "other", "refund")


@pytest.fixture
def model(models, tmp_path):
    directory = shutil.copytree(models / "router", tmp_path / "router")
    rows = [
        (language, Sight(6, 20, 0, False, label, 0.5, 1.0, None), True)
        for language in ("en", "ru")
        for label in LABELS
        for _ in range(40)
    ]
    write_reference(freeze(rows, task="classify", labels=LABELS), directory)
    return directory


def rows_of(place, version):
    store = DriftStore(place)
    hours = store.hours(Watched("router", version, "classify"), LABELS, 0, 1 << 30)
    signals = total(hours, Signals(version, "classify", LABELS))
    store.close()
    return {name: sketch.rows for name, sketch in signals.languages.items()}


@pytest.mark.parametrize("named", ["drift", "feedback"])
def test_answers_are_counted_and_metrics_told(model, tmp_path, named):
    place = str(tmp_path / "store.db")
    knobs = {named: place, "cache_dir": tmp_path, "feedback_key": "ab" * 32}
    with running([str(model)], **knobs) as house:
        version = house.plane.pool.models["router"].ref.version
        for _ in range(3):
            said = house.classify(input=["hello my friend", "где посылка и где мои деньги"])
            assert said.status_code == 200
        house.observing.observer.flush(20)
        house.observing.watching.turn()
        text = house.client.get("/metrics").text
    assert rows_of(place, version) == {"en": 3, "ru": 3}
    assert "xlmr_drift_hours_behind 0.0" in text
    for source in ("release", "estimated"):
        wanted = f'language="ru",source="{source}",end="high"'
        assert any(
            "xlmr_drift_accuracy_ratio{" in line and wanted in line for line in text.split("\n")
        )


def test_without_a_store_nothing_is_counted(model, tmp_path):
    with running([str(model)], cache_dir=tmp_path) as house:
        assert house.observing.watching is None
        assert "xlmr_drift_hours_behind 0" in house.client.get("/metrics").text


def test_a_store_that_is_away_keeps_nobody_from_answering(model, tmp_path, caplog):
    place = "postgresql://nobody@127.0.0.1:1/none"
    with running([str(model)], drift=place, cache_dir=tmp_path) as house:
        assert house.classify(input="hello").status_code == 200
        house.observing.watching.turn()
    assert any("counts wait in memory" in record.message for record in caplog.records)


def test_a_reference_that_was_changed_refuses_the_version(model, tmp_path):
    file = model / REFERENCE_FILE
    file.write_text(file.read_text().replace('"right": [', '"right": [1, ', 1))
    with (
        pytest.raises(ModelRefusedError, match=r"^drift-reference.json: "),
        running([str(model)], cache_dir=tmp_path),
    ):
        pass
