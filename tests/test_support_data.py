"""The bundled messages keep what their data card promises."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from xlmr.evaluation.suites import CLASSIFY, DataFile, read_file
from xlmr.training.data import read_examples
from xlmr.training.recipe import Data

SUPPORT = Path(__file__).resolve().parent.parent / "examples" / "support"
PATHS = sorted((SUPPORT / "data").iterdir())
# A script is the first word of its letters' names; these write one language together.
SAME_SCRIPT = {"HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA"}


@pytest.fixture(scope="module")
def files() -> dict[str, DataFile]:
    return {path.name: read_file(path) for path in PATHS}


def of_split(files: dict[str, DataFile], split: str) -> dict[str, DataFile]:
    return {n.split(".")[0]: file for n, file in files.items() if n.endswith(f".{split}.jsonl")}


def bare(text: str) -> str:
    """A sentence without case, punctuation and blanks."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] not in "PZSC")


def scripts(file: DataFile) -> Counter[str]:
    letters = (c for row in file.rows for c in row.text if c.isalpha())
    words = (unicodedata.name(c).split()[0] for c in letters)
    return Counter(SAME_SCRIPT.get(word, word) for word in words)


def test_every_row_is_read_and_none_is_dropped(files: dict[str, DataFile]) -> None:
    for name, file in files.items():
        assert (file.duplicates, file.contradictions) == (0, 0), name
        assert {row.language for row in file.rows} == {name.split(".")[0]}, name
        lines = file.path.read_text(encoding="utf-8").splitlines()
        assert len(file.rows) == len(lines), name


def test_there_are_enough_labels_languages_and_scripts(files: dict[str, DataFile]) -> None:
    test = of_split(files, "test")
    assert len({row.label for row in files["en.train.jsonl"].rows}) >= 12
    assert len(test) >= 24
    main_scripts = {scripts(file).most_common(1)[0][0] for file in test.values()}
    assert len(main_scripts) >= 10


def test_every_language_is_written_in_one_script_above_all(files: dict[str, DataFile]) -> None:
    for language, file in of_split(files, "test").items():
        counts = scripts(file)
        total = sum(counts.values())
        own = counts["KANA"] + counts["CJK"] if language == "ja" else max(counts.values())
        assert own / total > 0.95, language


@pytest.mark.parametrize(("split", "least"), [("train", 40), ("dev", 10), ("test", 4)])
def test_every_label_has_enough_rows(files: dict[str, DataFile], split: str, least: int) -> None:
    labels = {row.label for row in files["en.train.jsonl"].rows}
    for language, file in of_split(files, split).items():
        counts = Counter(row.label for row in file.rows)
        assert set(counts) == labels, language
        assert min(counts.values()) >= least, language


def test_no_sentence_stands_twice(files: dict[str, DataFile]) -> None:
    seen: dict[str, str] = {}
    for name, file in files.items():
        for row in file.rows:
            place = f"{name}:{row.line}"
            sentence = bare(row.text)
            assert sentence, place
            assert sentence not in seen, f"{place} repeats {seen[sentence]}"
            seen[sentence] = place


def test_training_reads_the_english_files_alone() -> None:
    examples = read_examples(Data(train=str(SUPPORT / "data"), languages=("en",)), CLASSIFY)
    read = [file.path.name for file in (*examples.train_files, *examples.dev_files)]
    assert read == ["en.train.jsonl", "en.dev.jsonl"]


def test_the_card_counts_right(files: dict[str, DataFile]) -> None:
    card = (SUPPORT / "DATA_CARD.md").read_text(encoding="utf-8")
    for split in ("train", "dev", "test"):
        found = of_split(files, split)
        row = re.search(rf"^\| {split} \| (\w+) \| ([\d,]+) \| (\d+) \|$", card, re.MULTILINE)
        assert row, split
        assert row[1] in (str(len(found)), "English")
        assert int(row[2].replace(",", "")) == sum(len(file.rows) for file in found.values())
        assert int(row[3]) == min(
            Counter(r.label for f in found.values() for r in f.rows if r.language == "en").values()
        )
    named = re.search(r"Languages, by code: ([a-z,\s]+)\.", card)
    assert named
    assert re.split(r",\s+", named[1]) == sorted(of_split(files, "test"))
    for label in {row.label for row in files["en.train.jsonl"].rows}:
        assert f"| `{label}` |" in card
