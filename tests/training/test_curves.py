"""The picture of a run: drawn without a screen, whole or not at all, and never worth a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xlmr.errors import MissingExtraError
from xlmr.training.curves import draw_curves

PNG = b"\x89PNG\r\n\x1a\n"


def step(number: int, *, dev: dict[str, float] | None = None) -> dict[str, Any]:
    scored = dev and {
        "metric": "span_f1",
        "macro": sum(dev.values()) / len(dev),
        "by_language": dev,
    }
    return {
        "number": number,
        "epoch": 1 + (number - 1) // 2,
        "loss": 1 / number,
        "learning_rate": 1e-3,
        "dev": scored,
    }


@pytest.mark.parametrize(
    "steps",
    [
        [step(1)],
        [step(1), step(2, dev={"en": 0.5}), step(3), step(4, dev={"en": 0.6})],
        [step(1), step(2, dev={"en": 0.5, "ru": 0.1}), step(3), step(4, dev={"en": 0.6})],
        [step(n, dev={f"l{i:02}": i / 60 for i in range(60)}) for n in range(1, 4)],
        [step(n) for n in range(1, 5002)],
    ],
    ids=["one step", "one language", "a language that comes and goes", "sixty", "many steps"],
)
def test_a_picture_of_any_run(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    assert draw_curves(steps, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_nothing_to_draw_is_no_picture(tmp_path: Path) -> None:
    assert not draw_curves([], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_nothing_global_is_touched(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from xlmr.training.curves import draw_curves\n"
        "step = dict(number=1, epoch=1, loss=1.0, learning_rate=1.0, dev=None)\n"
        f"draw_curves([step], Path({str(tmp_path / 'c.png')!r}))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="matplotlib is not installed"):
        draw_curves([step(1)], tmp_path / "curves.png")
