"""What a run cost in energy, by codecarbon where it is installed. Nothing leaves the machine."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
from collections.abc import Iterator
from typing import Any

# Energy does not depend on where a machine stands, but the package insists on a country.
_ANYWHERE = "USA"


class Meter:
    """Counts energy until it is read; see `metered`."""

    def __init__(self, tracker: Any, country: str) -> None:
        self._tracker, self._country = tracker, country
        self._counting = tracker is not None

    def read(self) -> dict[str, Any] | None:
        """Ends the counting and gives what was used, in kWh; None where nothing counted.

        The counts are estimates where the machine tells no better: a share of the processor's rated
        power. Emissions are given only where the country was said.
        """
        self.stop()
        found = getattr(self._tracker, "final_emissions_data", None)
        if found is None or not math.isfinite(found.energy_consumed):
            return None
        return {
            "kwh": found.energy_consumed,
            "cpu_kwh": found.cpu_energy,
            "gpu_kwh": found.gpu_energy,
            "memory_kwh": found.ram_energy,
            "seconds": found.duration,
            "country": self._country or None,
            "kg_co2": found.emissions if self._country else None,
            "by": f"codecarbon {found.codecarbon_version}",
        }

    def stop(self) -> None:
        """Ends the counting; a second time does nothing."""
        if self._counting:
            self._counting = False
            self._tracker.stop()


@contextlib.contextmanager
def metered(*, country: str = "") -> Iterator[Meter]:
    """Counts this machine's energy while it is open, in the background.

    Args:
        country: three letters (ISO 3166), for the emissions of its power stations; empty: none.
    """
    meter = Meter(_offline_tracker(country or _ANYWHERE), country)
    try:
        yield meter
    finally:
        meter.stop()


def _offline_tracker(country: str) -> Any:
    """codecarbon's tracker with every way out closed; None where it is not installed."""
    try:
        codecarbon = importlib.import_module("codecarbon")
    except ModuleNotFoundError:
        return None
    # It speaks before it reads the level it is given.
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code=country.upper(),
        project_name="xlmr",
        output_methods=[],  # said, not left to the package's own configuration files
        allow_multiple_runs=True,
        log_level="critical",
    )
    tracker.start()
    return tracker
