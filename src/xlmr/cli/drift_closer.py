"""A closer look at drifted languages: sentence vectors of kept texts against those at release.

Only where the feedback policy keeps redacted texts, and the model's directory is at hand; texts at
release are redacted alike. Vectors are made for the look and let go; ids of predictions are told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.drift.embedding import (
    Reservoir,
    Space,
    freeze_vectors,
    look_closer,
    read_vectors,
    write_vectors,
)
from xlmr.drift.keeping import HOUR_S, Watched
from xlmr.errors import DataError
from xlmr.feedback.opening import open_policy, open_redactor, open_store
from xlmr.model.predictor import Predictor, load
from xlmr.settings import Settings

# Of each language: more tell nothing that these do not.
_MOST_AT_RELEASE = 2000
_MOST_NOW = 500
_TOGETHER = 64
_NO_ROW = np.zeros(0, np.float16)


def keep_vectors(
    predictor: Predictor, texts: Mapping[str, Sequence[str]], directory: Path, settings: Settings
) -> int:
    """Puts the vectors of texts at release into a model directory; how many.

    Args:
        predictor: the model.
        texts: by language; redacted before they are read.
        directory: of the model.
        settings: what is redacted.

    Raises:
        DataError: the model gives no sentence vectors, or the directory cannot be written.
    """
    if "embed" not in predictor.tasks:
        raise DataError(
            "the model gives no sentence vectors", hint="leave --vectors away: counts need none"
        )
    redactor = open_redactor(settings, open_policy(settings))
    vectors = {
        language: _vectors(
            predictor, [redactor(text, language=language).text for text in own[:_MOST_AT_RELEASE]]
        )
        for language, own in texts.items()
    }
    try:
        write_vectors(*freeze_vectors(vectors), directory)
    except OSError as fault:
        raise DataError(f"{directory}: {fault.strerror}") from fault
    return sum(map(len, vectors.values()))


def closer_look(
    directory: Path | None,
    settings: Settings,
    watched: Watched,
    languages: Sequence[str],
    *,
    since: int,
    until: int,
) -> dict[str, Any]:
    """What a report says under `closer`: languages with what was found, or why there are none.

    Args:
        directory: of the model; None where it is not at hand.
        settings: where the feedback store is.
        watched: whose texts.
        languages: that drifted.
        since, until: hours.
    """
    if directory is None:
        return _nothing("it needs the model's directory (--model)")
    if not settings.feedback:
        return _nothing("it needs the feedback store (--feedback)")
    if not languages:
        return _nothing("no language drifted")
    frozen = read_vectors(directory)
    if frozen is None:
        return _nothing(f"{directory} has no vectors (`xlmr drift reference --vectors`)")
    texts = _texts(settings, watched, languages, since, until)
    space, before = frozen
    found, not_looked = {}, []
    with load(directory, settings=settings) as predictor:
        for language in languages:
            own = texts[language]
            rows_NP = before.get(language, np.zeros((0, 1), np.float16))
            if min(len(own), len(rows_NP)) < 10:
                not_looked.append(f"{language}: {len(own)} texts now, {len(rows_NP)} at release")
                continue
            now_MP = _placed(predictor, space, list(own.values()))
            seen = look_closer(rows_NP, now_MP, list(own), tested=len(languages))
            found[language] = asdict(seen)
    return {"languages": found, "why_not": "; ".join(not_looked) or None}


def _nothing(why: str) -> dict[str, Any]:
    return {"languages": {}, "why_not": why}


def _texts(
    settings: Settings, watched: Watched, languages: Sequence[str], since: int, until: int
) -> dict[str, dict[str, str]]:
    """Language → prediction → its redacted text, an even sample of those that were kept."""
    samples = {language: Reservoir(_MOST_NOW) for language in languages}
    texts: dict[str, dict[str, str]] = {language: {} for language in languages}
    hour_us = HOUR_S * 1_000_000
    with contextlib.closing(open_store(settings)) as store:
        for record in store.records(since_us=since * hour_us, until_us=until * hour_us):
            ours = (record.model, record.version) == (watched.model, watched.version)
            sample = samples.get(record.language)
            if ours and record.text and sample is not None and sample.wants(record.id):
                sample.keep(record.id, _NO_ROW)
                texts[record.language][record.id] = record.text
    return {
        language: {id: texts[language][id] for id in sample.rows()[0]}
        for language, sample in samples.items()
    }


def _placed(predictor: Predictor, space: Space, texts: Sequence[str]) -> NDArray[np.float16]:
    return space.place(_vectors(predictor, texts))


def _vectors(predictor: Predictor, texts: Sequence[str]) -> NDArray[np.float32]:
    """[N, D]."""
    found = [
        answer.vector
        for start in range(0, len(texts), _TOGETHER)
        for answer in predictor.embed(texts[start : start + _TOGETHER])
    ]
    return np.stack(found)
