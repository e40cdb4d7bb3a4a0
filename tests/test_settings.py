"""Settings from the environment: each of its kind, within its bounds."""

from __future__ import annotations

import pytest

from xlmr.errors import SettingsError
from xlmr.settings import Settings


def test_numbers_are_read_as_what_they_are():
    settings = Settings.from_environment(
        {"XLMR_TRACE_SAMPLE_RATIO": "0.25", "XLMR_PRICE_PER_HOUR": "2", "XLMR_PORT": "9"}
    )
    assert (settings.trace_sample_ratio, settings.price_per_hour) == (0.25, 2.0)
    assert isinstance(settings.price_per_hour, float)
    assert settings.port == 9


def test_a_command_line_wins_over_the_environment():
    settings = Settings.from_environment({"XLMR_PRICE_PER_HOUR": "2"}, price_per_hour="3.5")
    assert settings.price_per_hour == 3.5


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("XLMR_TRACE_SAMPLE_RATIO", "1.5", "at most 1"),
        ("XLMR_TRACE_SAMPLE_RATIO", "-0.1", "at least 0"),
        ("XLMR_TRACE_SAMPLE_RATIO", "nan", "at least 0"),
        ("XLMR_TRACE_SAMPLE_RATIO", "half", "expected a number"),
        ("XLMR_PRICE_PER_HOUR", "-1", "at least 0"),
        ("XLMR_PORT", "0.5", "expected a whole number"),
    ],
)
def test_what_is_wrong_is_named(variable, value, words):
    with pytest.raises(SettingsError, match=words) as caught:
        Settings.from_environment({variable: value})
    assert variable in str(caught.value)


def test_a_home_is_never_a_directory_called_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for settings in (Settings(), Settings.from_environment({})):
        assert settings.cache_dir == tmp_path / ".cache" / "xlmr"
    there = Settings.from_environment({"XLMR_CACHE_DIR": "~/there"})
    assert there.cache_dir == tmp_path / "there"
