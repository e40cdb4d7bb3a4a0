"""Fixtures that several packages share."""

from __future__ import annotations

from pathlib import Path

from xlmr.settings import Settings, keep_blas_out_of_the_way

keep_blas_out_of_the_way()

import pytest  # noqa: E402

from xlmr.model.importing.starter import import_starter  # noqa: E402

try:
    import hypothesis
except ModuleNotFoundError:
    pass  # the environments of tests/integrations are without it
else:
    # A machine that is busy elsewhere says nothing about the code.
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def starter() -> Path:
    """The starter model's directory: built once, kept in `build/`, never written to by tests."""
    settings = Settings.from_environment()
    return import_starter(REPOSITORY / "build" / "starter", cache_dir=settings.cache_dir)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory of this test run's own."""
    return tmp_path_factory.mktemp("cache")
