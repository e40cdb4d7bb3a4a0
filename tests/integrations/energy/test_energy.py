"""codecarbon counts energy here, and asks nobody."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from xlmr.training.energy import metered


def work(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    asked: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.chdir(tmp_path)
    return asked


def test_energy_is_counted_without_a_file_or_a_connection(
    no_network: list[Any], tmp_path: Path
) -> None:
    with metered() as meter:
        work(1.0)
        found = meter.read()
    assert found is not None
    assert 0.0 < found["kwh"] < 1.0
    parts = [found[part] for part in ("cpu_kwh", "gpu_kwh", "memory_kwh")]
    assert sum(parts) == pytest.approx(found["kwh"])
    assert found["seconds"] >= 1.0
    assert (found["country"], found["kg_co2"]) == (None, None)
    assert found["by"].startswith("codecarbon 3.")
    assert not no_network
    assert not list(tmp_path.iterdir())


def test_emissions_are_those_of_the_country_that_was_said() -> None:
    found = {}
    for country in ("POL", "SWE"):
        with metered(country=country) as meter:
            work(1.0)
            found[country] = meter.read()
    grams = {name: each["kg_co2"] / each["kwh"] for name, each in found.items() if each}
    # Poland's power comes largely from coal, Sweden's from water and uranium.
    assert grams["POL"] > 5 * grams["SWE"] > 0.0
