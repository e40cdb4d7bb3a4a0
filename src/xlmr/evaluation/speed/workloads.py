"""What is timed: batches given by the lengths of their texts, in tokens.

Only real tokens are counted. A runtime that pads computes more, and that is its own affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xlmr.errors import InputError
from xlmr.model.config import EncoderConfig
from xlmr.types import Batch

Workloads = Mapping[str, tuple[int, ...]]

# Most tokens of one workload: some gigabytes of activations, and more than any server batches.
MOST_TOKENS = 262_144

# Online traffic: log-normal lengths, median 24 tokens, 4 to 256. At this width, and with this seed,
# 32 texts hold 928 tokens, 4 to 117 each: padded to the longest, three quarters are padding.
_MIXED_TEXTS, _MIXED_MEDIAN, _MIXED_WIDTH, _MIXED_SEED = 32, 24, 0.75, 1
_MIXED_SHORTEST, _MIXED_LONGEST = 4, 256


def standard_workloads() -> dict[str, tuple[int, ...]]:
    """Uniform batches named TEXTSxTOKENS, single texts, and `mixed`, as online traffic is."""
    uniform = ((8, 32), (32, 32), (4, 256), (1, 128), (1, 16), (1, 512))
    named = {f"{texts}x{tokens}": (tokens,) * texts for texts, tokens in uniform}
    return named | {"mixed": _mixed()}


def choose_workloads(names: Sequence[str], *, max_tokens: int) -> dict[str, tuple[int, ...]]:
    """The named standard workloads, or all that the model can read where none is named.

    Raises:
        InputError: no workload of that name, or one with texts longer than the model reads.
    """
    known = standard_workloads()
    if not names:
        return {name: w for name, w in known.items() if max(w) <= max_tokens}
    for name in names:
        if name not in known:
            raise InputError(f"no workload {name!r}", hint=f"known: {', '.join(known)}")
    return check_workloads({name: known[name] for name in names}, max_tokens=max_tokens)


def parse_workloads(text: str | bytes, *, max_tokens: int) -> dict[str, tuple[int, ...]]:
    """Reads `{"name": [token lengths]}`.

    Args:
        text: JSON.
        max_tokens: longest text the model reads, special tokens included.

    Raises:
        InputError: not JSON, or not of that form; says which name and which index.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        raise InputError(f"not JSON at {where}: {fault.msg}", hint=_FORM) from fault
    except (UnicodeDecodeError, RecursionError, ValueError) as fault:
        raise InputError(f"not JSON: {type(fault).__name__}", hint=_FORM) from fault
    if not isinstance(value, dict):
        raise InputError(f"expected an object, got {type(value).__name__}", hint=_FORM)
    return check_workloads(value, max_tokens=max_tokens)


def check_workloads(value: Mapping[str, Any], *, max_tokens: int) -> dict[str, tuple[int, ...]]:
    """Refuses what cannot be computed; names the workload and the index.

    Raises:
        InputError: no workload, no text, or a length outside 1..`max_tokens`.
    """
    if not value:
        raise InputError("no workloads", hint=_FORM)
    for name, lengths in value.items():
        path = f"$.{name}"
        if not isinstance(lengths, list | tuple) or not lengths:
            raise InputError("expected a list of at least one length", path=path, hint=_FORM)
        for i, length in enumerate(lengths):
            if not isinstance(length, int) or isinstance(length, bool):
                kind = type(length).__name__
                raise InputError(f"expected a whole number, got {kind}", path=f"{path}[{i}]")
            if not 1 <= length <= max_tokens:
                raise InputError(
                    f"{length} tokens; a text has 1 to {max_tokens}", path=f"{path}[{i}]"
                )
        if sum(lengths) > MOST_TOKENS:
            raise InputError(f"{sum(lengths)} tokens; at most {MOST_TOKENS:,}", path=path)
    return {name: tuple(lengths) for name, lengths in value.items()}


def batch_of(lengths: Sequence[int], config: EncoderConfig, *, seed: int = 0) -> Batch:
    """Random ids of the given lengths; no id is padding, so no runtime may skip one."""
    starts_B = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=starts_B[1:])
    first = config.pad_id + 1
    ids_T = np.random.default_rng(seed).integers(first, config.vocabulary, int(starts_B[-1]))
    return Batch(ids_T=ids_T.astype(np.int32), starts=starts_B)


_FORM = 'for example {"one text": [16], "batch": [12, 40, 7]}'


def _mixed() -> tuple[int, ...]:
    generator = np.random.default_rng(_MIXED_SEED)
    drawn = np.exp(generator.normal(np.log(_MIXED_MEDIAN), _MIXED_WIDTH, _MIXED_TEXTS)).round()
    return tuple(int(length) for length in drawn.clip(_MIXED_SHORTEST, _MIXED_LONGEST))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose second `name` would silently win is refused."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InputError("named twice", path=f"$.{repeated}")
    return value
