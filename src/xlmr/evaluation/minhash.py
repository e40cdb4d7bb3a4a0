"""Which texts share most of their pieces, without comparing each with each: MinHash and banding.

A text's pieces are its runs of `WIDTH` characters. A signature keeps, for each of many ways to
shuffle all pieces there are, the first of the text's own: two texts agree in a place as often as
their sets of pieces overlap (Jaccard: shared pieces over all pieces). Signatures are cut in bands,
and only texts that agree in a whole band are looked at again.

Shapes: N texts, C characters, S pieces of all texts, K shuffles, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 5
# 20 bands of 6: of pairs with Jaccard 0.8, 99.8 % agree in a band; with 0.4, 8 %; with 0.2, 0.1 %.
BANDS = 20
BAND_WIDTH = 6
SHUFFLES = BANDS * BAND_WIDTH
_BLOCK = 1 << 16  # pieces at a time: they stay in the cache while all shuffles pass over them
_SEED = 20
_MOST_PAIRS = 1 << 16  # of one band
_LOOKED_AT = 16

UInt32 = NDArray[np.uint32]
Int64 = NDArray[np.int64]


def pieces(text: str) -> frozenset[str]:
    """The text's runs of `WIDTH` characters; a shorter one is a piece by itself."""
    return frozenset(text[i : i + WIDTH] for i in range(max(1, len(text) - WIDTH + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared pieces over all pieces, 0 to 1."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def signatures(texts: Sequence[str]) -> UInt32:
    """The signature of each text, uint32 [N, SHUFFLES]; the same texts give the same, always."""
    signatures_NK = np.empty((len(texts), SHUFFLES), np.uint32)
    if not texts:
        return signatures_NK
    hashes_S, starts_N = _hashes(texts)
    multipliers_K, offsets_K = _shuffles()
    first = 0
    while first < len(texts):
        limit = starts_N[first] + _BLOCK
        last = max(first + 1, int(np.searchsorted(starts_N, limit, "right")) - 1)
        end = starts_N[last] if last < len(texts) else len(hashes_S)
        block_S = hashes_S[starts_N[first] : end]
        starts = starts_N[first:last] - starts_N[first]
        shuffled_S = np.empty_like(block_S)
        for k in range(SHUFFLES):
            np.multiply(block_S, multipliers_K[k], out=shuffled_S)
            np.add(shuffled_S, offsets_K[k], out=shuffled_S)
            signatures_NK[first:last, k] = np.minimum.reduceat(shuffled_S, starts)
        first = last
    return signatures_NK


def estimate(signatures_NK: UInt32, pairs_P2: Int64) -> NDArray[np.float64]:
    """The estimated Jaccard of each pair of rows, [P]; its deviation is at most 0.046."""
    estimates_P = np.empty(len(pairs_P2), np.float64)
    for start in range(0, len(pairs_P2), _BLOCK):
        part = pairs_P2[start : start + _BLOCK]
        agree_PK = signatures_NK[part[:, 0]] == signatures_NK[part[:, 1]]
        estimates_P[start : start + _BLOCK] = agree_PK.mean(axis=1)
    return estimates_P


def candidates(signatures_NK: UInt32, groups_N: Int64) -> Int64:
    """Pairs of rows that agree in a whole band and stand in different groups, int64 [P, 2].

    Each pair comes once, the row of the lower group first. Of a band that very many rows share,
    only some pairs are given, at least one for each row of a lower group.
    """
    count = len(groups_N)
    found = [np.empty(0, np.int64)]
    for band in range(BANDS):
        places = range(band * BAND_WIDTH, (band + 1) * BAND_WIDTH)
        keys_N = _mix(_fold([signatures_NK[:, place].astype(np.uint64) for place in places]))
        order_N = np.lexsort((groups_N, keys_N))
        cuts = np.flatnonzero(np.diff(keys_N[order_N])) + 1
        # Most bands are a row's own: only those that several rows share are taken apart.
        starts = np.concatenate(([0], cuts))
        ends = np.concatenate((cuts, [count]))
        shared = groups_N[order_N[starts]] < groups_N[order_N[ends - 1]] if count else starts > 0
        for start, end in zip(starts[shared], ends[shared], strict=True):
            found += _pairs(order_N[start:end], groups_N, count)
    flat_P = np.unique(np.concatenate(found))
    return np.stack(np.divmod(flat_P, max(count, 1)), axis=1)


def _pairs(rows: Int64, groups_N: Int64, count: int) -> Iterator[Int64]:
    """Every row with those of higher groups, each pair as one number, [P].

    Where thousands of rows share a band they are all much alike, and there it is enough to look at
    some of the higher ones: without that limit the work would grow with the square.
    """
    groups = groups_N[rows]
    for group in np.unique(groups)[:-1]:
        lower, higher = rows[groups == group], rows[groups > group]
        if len(lower) * len(higher) > _MOST_PAIRS:
            higher = higher[:: -(-len(higher) // _LOOKED_AT)]
        yield np.repeat(lower, len(higher)) * count + np.tile(higher, len(lower))


def _hashes(texts: Sequence[str]) -> tuple[UInt32, Int64]:
    """A hash of every piece of every text, [S], and where each text's begin, [N]."""
    padded = [text.ljust(WIDTH) for text in texts]
    lengths_N = np.array([len(text) for text in padded], np.int64)
    joined = "".join(padded).encode("utf-32-le", "surrogatepass")
    codes_C = np.frombuffer(joined, np.uint32).astype(np.uint64)
    count = len(codes_C) - WIDTH + 1
    hashes_C = _mix(_fold([codes_C[i : i + count] for i in range(WIDTH)])) >> np.uint64(32)
    inside = np.ones(len(codes_C), bool)
    inside[(np.cumsum(lengths_N)[:, None] - np.arange(1, WIDTH)).ravel()] = False
    starts_N = np.concatenate(([0], np.cumsum(lengths_N - WIDTH + 1)[:-1]))
    return hashes_C[inside[:count]].astype(np.uint32), starts_N


def _fold(columns: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """One number for what stands side by side in the columns, order heeded."""
    folded = columns[0].copy()
    for column in columns[1:]:
        folded *= np.uint64(0x9E3779B97F4A7C15)
        folded += column
    return folded


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads every bit over all 64: two rounds of xor-shift and odd multiplication."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _shuffles() -> tuple[UInt32, UInt32]:
    """An odd multiplier and an offset for each shuffle: modulo 2³² they map one to one."""
    random = np.random.default_rng(_SEED)
    drawn_2K = random.integers(0, 1 << 32, (2, SHUFFLES), np.uint32)
    return drawn_2K[0] | np.uint32(1), drawn_2K[1]
