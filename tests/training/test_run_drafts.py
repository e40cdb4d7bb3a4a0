"""What a killed run was writing does not fill the disk."""

from __future__ import annotations

from pathlib import Path

from xlmr.training.rundir import open_run, run_path


def test_drafts_of_a_killed_run_go_when_the_next_begins(tmp_path: Path) -> None:
    out = tmp_path / "model"
    run_path(out).mkdir()
    draft = run_path(out) / ".state.pt.0a1b2c3d.partial"
    draft.write_bytes(b"half of a checkpoint")
    with open_run(out, identity={"seed": 0}, recipe_toml="", fresh=False):
        assert not draft.exists()
