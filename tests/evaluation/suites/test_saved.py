"""What is known of a saved data set without the package that reads it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from xlmr.errors import DataError, MissingExtraError
from xlmr.evaluation.suites import read_file, read_split
from xlmr.evaluation.suites.saved import is_saved, saved_split


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    for name in ("train", "validation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{}")
        (tmp_path / name / "data-00000-of-00001.arrow").write_bytes(name.encode())
    return tmp_path


def test_it_is_told_from_other_folders(
    saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert is_saved(saved)
    assert is_saved(saved / "train")
    assert not is_saved(tmp_path_factory.mktemp("empty"))
    assert not is_saved(saved / "train" / "state.json")


def test_a_split_is_found_under_either_name(saved: Path) -> None:
    assert saved_split(saved, "train") == saved / "train"
    assert saved_split(saved, "dev") == saved / "validation"
    assert saved_split(saved, "test") is None
    assert saved_split(saved / "train", "test") == saved / "train"


def test_without_the_package_it_says_what_to_install(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="datasets is not installed") as caught:
        read_split(saved, "train")
    assert caught.value.hint == "pip install 'xlmr[datasets]'"


def test_several_splits_are_no_file(saved: Path) -> None:
    with pytest.raises(DataError, match="holds several splits") as caught:
        read_file(saved)
    assert str(saved / "train") in caught.value.hint


def test_a_broken_list_of_splits_is_said(saved: Path) -> None:
    (saved / "dataset_dict.json").write_text('{"splits": 3}')
    with pytest.raises(DataError, match="not the list of splits"):
        read_split(saved, "train")
