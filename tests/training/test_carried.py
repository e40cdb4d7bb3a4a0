"""What a smaller model takes along, and what would be untrue of it."""

from __future__ import annotations

from pathlib import Path

from xlmr.training.carried import carry


def test_a_released_models_manifest_and_signature_stay_behind(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in ("xlmr-manifest.json", "model.sig", "golden.json", "modules.json", "LICENSE"):
        (source / name).write_text("{}")
    carry(source, target)
    assert {path.name for path in target.iterdir()} == {"modules.json", "LICENSE"}
