"""Data sets and identification name languages differently, and mean the same."""

from __future__ import annotations

import pytest

from xlmr.text.codes import short_code


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("de", "de"),
        ("pt-BR", "pt"),
        ("zh_Hans", "zh"),
        ("arb_Arab", "ar"),
        ("eng", "en"),
        ("swh_Latn", "sw"),
        ("SPA", "es"),
        ("ceb", "ceb"),
        ("und", "und"),
        ("*", "*"),
    ],
)
def test_a_key_without_script_and_region(key: str, code: str) -> None:
    assert short_code(key) == code
    assert short_code(short_code(key)) == code
