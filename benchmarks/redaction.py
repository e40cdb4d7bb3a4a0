"""How much of the personal data in `benchmarks/data/redaction*.txt` is found, and how much else.

    python benchmarks/redaction.py --page docs/redaction.md

A finding counts where it has the kind and covers the value; what it covers beyond counts against it
where that is more than two characters. Seconds are of the machine it runs on; all else is the same
on any.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tables import write_tables

from xlmr.feedback.redaction.finding import ADDRESS, KINDS, NAME, Finding
from xlmr.feedback.redaction.redactor import Redactor

_DIRECTORY = Path(__file__).resolve().parent / "data"
DATA, UNSEEN = _DIRECTORY / "redaction.txt", _DIRECTORY / "redaction-unseen.txt"
_MARK = re.compile(r"\[\[([A-Z_]+)\|(.*?)\]\](?!\])")
_SLACK = 2


@dataclass(frozen=True)
class Sentence:
    """A sentence and what should be found in it."""

    language: str
    text: str
    wanted: tuple[Finding, ...]


@dataclass
class Score:
    """Values found, missed, and findings of what is none."""

    found: int = 0
    missed: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)

    def row(self) -> str:
        """As cells of a table: how many values, recall, precision."""
        wanted, given = self.found + self.missed, self.found + self.wrong
        recall = f"{self.found / wanted * 100:.0f} %" if wanted else "–"
        precision = f"{self.found / given * 100:.0f} %" if given else "–"
        return f"{wanted} | {recall} | {precision}"


def sentences(path: Path = DATA) -> Iterator[Sentence]:
    """The test set, its marks taken out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line:
            continue
        language, marked = line.split("\t")
        text, wanted, last = "", [], 0
        for mark in _MARK.finditer(marked):
            text += marked[last : mark.start()]
            wanted.append(Finding(mark[1], len(text), len(text) + len(mark[2])))
            text, last = text + mark[2], mark.end()
        yield Sentence(language, text + marked[last:], tuple(wanted))


def matches(wanted: Finding, found: Finding) -> bool:
    """Whether a finding is the wanted one, and hardly more."""
    return (
        wanted.kind == found.kind
        and found.start <= wanted.start
        and found.end >= wanted.end
        and (found.end - found.start) - (wanted.end - wanted.start) <= _SLACK
    )


def measure(
    redactor: Redactor, *, told: bool, path: Path = DATA
) -> tuple[dict[str, Score], dict[str, Score]]:
    """Scores by kind and by language; `told` says whether the text's language was."""
    kinds = {kind: Score() for kind in KINDS if kind not in (NAME, ADDRESS)}
    languages: dict[str, Score] = {}
    for sentence in sentences(path):
        language = sentence.language if told else None
        findings = list(redactor(sentence.text, language=language).findings)
        here = languages.setdefault(sentence.language, Score())
        for wanted in sentence.wanted:
            found = next((f for f in findings if matches(wanted, f)), None)
            scores = (kinds[wanted.kind], here)
            if found is None:
                for score in scores:
                    score.missed += 1
                here.notes.append(f"missed {wanted.kind}: {sentence.text}")
            else:
                findings.remove(found)
                for score in scores:
                    score.found += 1
        for found in findings:
            kinds[found.kind].wrong += 1
            here.wrong += 1
            here.notes.append(f"wrong {found.kind} [{sentence.text[found.start : found.end]}]")
    return kinds, languages


def total(scores: dict[str, Score]) -> Score:
    """All of them together."""
    counts: Counter[str] = Counter()
    for score in scores.values():
        counts.update(found=score.found, missed=score.missed, wrong=score.wrong)
    return Score(counts["found"], counts["missed"], counts["wrong"])


def by_kind(path: Path = DATA) -> Iterator[str]:
    """Rows: kind; values, recall and precision with the language told; both where it is not."""
    told, _ = measure(Redactor(), told=True, path=path)
    untold, _ = measure(Redactor(), told=False, path=path)
    for kind in told:
        yield f"| {kind} | {told[kind].row()} | {untold[kind].row().partition(' | ')[2]} |"
    together = total(untold).row().partition(" | ")[2]
    yield f"| all | {total(told).row()} | {together} |"


def by_language() -> Iterator[str]:
    """Rows: language; values, recall and precision, with the language told."""
    _, languages = measure(Redactor(), told=True)
    for language, score in sorted(languages.items()):
        yield f"| {language} | {score.row()} |"


def speed() -> Iterator[str]:
    """Rows: what text; characters; milliseconds for one."""
    redactor = Redactor()
    texts = {
        "a sentence of the test set, on average": [s.text for s in sentences()],
        "10,000 characters of prose": ["Nothing to see here, and more of it follows. " * 222],
        "10,000 digits": ["1234567890" * 1000],
        "10,000 digits, a space after each": ["1 " * 5000],
        "10,000 signs `@`": ["@" * 10_000],
        "10,000 characters of `a.a.a.`": ["a." * 5000],
    }
    for name, given in texts.items():
        for text in given:
            redactor(text, language="de")
        begun = time.perf_counter()
        for text in given:
            redactor(text, language="de")
        spent = (time.perf_counter() - begun) / len(given)
        length = sum(map(len, given)) / len(given)
        yield f"| {name} | {length:,.0f} | {spent * 1000:.1f} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "unseen": partial(by_kind, UNSEEN),
    "kinds": by_kind,
    "languages": by_language,
    "speed": speed,
}


def main() -> None:
    """Writes each table between its two markers; prints them where no page is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="whose tables are replaced")
    parser.add_argument("--faults", action="store_true", help="print what was missed or wrong")
    options = parser.parse_args()
    if options.faults:
        for language, score in measure(Redactor(), told=True)[1].items():
            for note in score.notes:
                print(f"{language}: {note}")
        return
    write_tables(TABLES, options.page)


if __name__ == "__main__":
    main()
