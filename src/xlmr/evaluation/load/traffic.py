"""What is asked, and when: Poisson arrivals of texts in many languages and of mixed lengths. Pure.

Arrivals are drawn beforehand and do not wait for answers, as users do not: a server that stalls
meets everything that arrived meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xlmr.errors import SettingsError
from xlmr.evaluation.golden import INPUTS

# Online traffic: log-normal, in words or, of languages written without spaces, pairs of letters.
_MEDIAN_WORDS, _WIDTH, _MOST_WORDS = 16, 0.75, 180
_LANGUAGES = (
    *("english", "german", "spanish", "russian", "arabic", "hebrew", "hindi", "chinese"),
    *("japanese", "thai", "swahili"),
)
_UNSPACED = {"chinese", "japanese", "thai"}

# Where each task is asked.
_PATHS: Mapping[str, str] = {
    "classify": "/v1/classify",
    "tag": "/v1/tag",
    "embed": "/v1/embeddings",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the load.

    Attributes:
        at_s: when it arrives, from the start of the run.
        path: where it goes.
        body: JSON.
    """

    at_s: float
    path: str
    body: bytes


def draw_traffic(
    *,
    rate: float,
    seconds: float,
    seed: int,
    tasks: Sequence[str] = ("embed",),
    models: Mapping[str, str] | None = None,
    texts: Sequence[str] | None = None,
) -> list[Ask]:
    """Arrivals of a Poisson process, by time; each asks one text of one task.

    Args:
        rate: requests a second.
        seconds: how long arrivals go on.
        seed: two runs of one seed ask the same at the same moments.
        tasks: drawn from with equal chance.
        models: the model that is named for a task, where one must be.
        texts: drawn from; None makes texts of eleven languages, no two alike.

    Raises:
        SettingsError: a task that has no path here.
    """
    for task in tasks:
        if task not in _PATHS:
            raise SettingsError(f"no load for {task!r}", hint=f"known: {', '.join(_PATHS)}")
    generator = np.random.default_rng(seed)
    source = _given(texts, generator) if texts is not None else _made(generator)
    asks = []
    at_s = generator.exponential(1.0 / rate)
    while at_s < seconds:
        task = tasks[int(generator.integers(len(tasks)))]
        body = {"input": next(source)}
        if models is not None and task in models:
            body["model"] = models[task]
        encoded = json.dumps(body, ensure_ascii=False).encode()
        asks.append(Ask(float(at_s), _PATHS[task], encoded))
        at_s += generator.exponential(1.0 / rate)
    return asks


def _given(texts: Sequence[str], generator: np.random.Generator) -> Iterator[str]:
    while True:
        yield texts[int(generator.integers(len(texts)))]


def _made(generator: np.random.Generator) -> Iterator[str]:
    words = {language: _words(language) for language in _LANGUAGES}
    while True:
        language = _LANGUAGES[int(generator.integers(len(_LANGUAGES)))]
        size = generator.lognormal(np.log(_MEDIAN_WORDS), _WIDTH)
        count = int(min(max(size, 2), _MOST_WORDS))
        drawn = generator.choice(words[language], count)
        yield ("" if language in _UNSPACED else " ").join(drawn.tolist())


def _words(language: str) -> list[str]:
    text = INPUTS[language]
    if language in _UNSPACED:
        return [text[i : i + 2] for i in range(len(text) - 1)]
    return text.split()
