"""A closer look, where there is suspicion: sentence vectors now against those at release.

Counts say that something changed; vectors say what kind of text is new. Vectors are kept as few
numbers each, their places on the reference's principal components and how far they lie off them,
and only of so many texts as a `Reservoir` holds. They are no text, but whoever has the model can
guess at one: treat them as what the feedback policy allows, and let them end with the suspicion.

Suffixes: N rows of the reference, M rows now, D width of a vector, P numbers kept of it,
F random features.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError

Floats = NDArray[np.float64]

VECTORS_FILE = "drift-vectors.safetensors"
COMPONENTS = 64
# The smallest difference that is worth telling: how well a classifier tells new rows from old.
LEAST_AUC = 0.60
ALPHA = 0.05
_FEATURES = 256
_PERMUTATIONS = 999
_PAIRS = 2000
_CLUSTERS = 8
_ROUNDS = 20
_TYPICAL = 5
# Of the features' covariance, which some hundred rows leave uncertain.
_RIDGE = 0.1


@dataclass(frozen=True, slots=True)
class Space:
    """The principal components of the reference's vectors.

    Attributes:
        mean_D: of all rows.
        components_PD: at most `COMPONENTS`, orthonormal.
    """

    mean_D: NDArray[np.float32]
    components_PD: NDArray[np.float32]

    def place(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float16]:
        """What is kept of vectors: where they lie, and last their distance off the components."""
        centred_ND = vectors_ND - self.mean_D
        along_NP = centred_ND @ self.components_PD.T
        square_N = (centred_ND**2).sum(axis=1) - (along_NP**2).sum(axis=1)
        off_N = np.sqrt(np.maximum(square_N, 0.0))
        kept_NP: NDArray[np.float16] = np.column_stack([along_NP, off_N]).astype(np.float16)
        return kept_NP


def freeze_vectors(
    vectors: Mapping[str, NDArray[np.float32]],
) -> tuple[Space, dict[str, NDArray[np.float16]]]:
    """A reference's space, and what is kept of its rows by language.

    Every other row makes the space, the rest is kept: rows lie nearer to components that were
    fitted to them than any later row can.

    Args:
        vectors: language → sentence vectors [N, D], in no order that means anything.

    Raises:
        DataError: fewer than four rows in all.
    """
    space = _fitted_space(np.concatenate([found[::2] for found in vectors.values()]))
    return space, {name: space.place(found[1::2]) for name, found in vectors.items()}


def _fitted_space(vectors_ND: NDArray[np.float32]) -> Space:
    if len(vectors_ND) < 2:
        raise DataError("reference vectors: fewer than four rows")
    mean_D = vectors_ND.mean(axis=0)
    centred_ND = (vectors_ND - mean_D).astype(np.float64)
    _, directions_DD = np.linalg.eigh(centred_ND.T @ centred_ND)
    most = min(COMPONENTS, vectors_ND.shape[1], len(vectors_ND) - 1)
    components_PD = directions_DD.T[::-1][:most].astype(np.float32)
    return Space(mean_D.astype(np.float32), np.ascontiguousarray(components_PD))


def write_vectors(space: Space, rows: Mapping[str, NDArray[np.float16]], directory: Path) -> None:
    """Puts them into a model directory, before it is released.

    Args:
        space: of the reference.
        rows: language → what `Space.place` keeps, [N, P]; some thousand of each are plenty.
        directory: of the model.
    """
    from safetensors.numpy import save_file

    tensors = {f"rows.{name}": np.ascontiguousarray(found) for name, found in rows.items()}
    fixed = {"mean": space.mean_D, "components": space.components_PD}
    save_file(tensors | fixed, directory / VECTORS_FILE)


def read_vectors(directory: Path) -> tuple[Space, dict[str, NDArray[np.float16]]] | None:
    """What a model directory carries; None where it carries nothing.

    Raises:
        DataError: the file is not what it should be.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = directory / VECTORS_FILE
    if not path.exists():
        return None
    try:
        tensors = load_file(path)
        space = Space(tensors.pop("mean"), tensors.pop("components"))
    except (OSError, SafetensorError, KeyError) as fault:
        raise DataError(f"{path}: cannot be read: {fault}") from fault
    rows = {name.removeprefix("rows."): found for name, found in tensors.items()}
    width = len(space.components_PD) + 1
    wrong = [name for name, found in rows.items() if found.ndim != 2 or found.shape[1] != width]
    if wrong or space.components_PD.shape[1:] != space.mean_D.shape:
        raise DataError(f"{path}: its vectors do not fit each other")
    return space, rows


class Reservoir:
    """An even sample of the texts that passed, of a fixed size. `one + other` samples both.

    Each id has its number from a hash, and the smallest numbers stay: however texts are dealt to
    servers and in whatever order they come, the sample of all is the same. Ids must not be the
    callers' choice.

    Args:
        size: most rows it holds.
    """

    def __init__(self, size: int = 500) -> None:
        self.size = size
        self._heap: list[tuple[int, str]] = []
        self._rows: dict[str, NDArray[np.float16]] = {}

    def wants(self, identifier: str) -> bool:
        """Whether a text would be kept: ask before its vector is placed."""
        if identifier in self._rows:
            return False
        return len(self._heap) < self.size or _number(identifier) < -self._heap[0][0]

    def keep(self, identifier: str, row_P: NDArray[np.float16]) -> None:
        """Keeps what `Space.place` made of a vector, and lets go of another; or does nothing."""
        if not self.wants(identifier):
            return
        heapq.heappush(self._heap, (-_number(identifier), identifier))
        self._rows[identifier] = row_P
        if len(self._heap) > self.size:
            del self._rows[heapq.heappop(self._heap)[1]]

    def rows(self) -> tuple[list[str], NDArray[np.float16]]:
        """Ids in order, and their rows [M, P]."""
        names = sorted(self._rows)
        return names, np.stack([self._rows[name] for name in names]) if names else np.zeros(
            (0, 0), np.float16
        )

    def __add__(self, other: Reservoir) -> Reservoir:
        both = Reservoir(min(self.size, other.size))
        for one in (self, other):
            for name, row_P in one._rows.items():
                both.keep(name, row_P)
        return both

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        names, rows_MP = self.rows()
        packed = base64.b64encode(rows_MP.astype("<f2").tobytes()).decode()
        return {"size": self.size, "ids": names, "width": rows_MP.shape[1], "rows": packed}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reservoir:
        """The reverse.

        Raises:
            DataError: something else.
        """
        try:
            plain = msgspec.convert(value, _Plain)
            flat = np.frombuffer(base64.b64decode(plain.rows, validate=True), "<f2")
            rows_MP = flat.reshape(len(plain.ids), plain.width)
        except (msgspec.ValidationError, ValueError) as fault:
            raise DataError(f"reservoir: {fault}") from None
        found = cls(plain.size)
        for name, row_P in zip(plain.ids, rows_MP, strict=True):
            found.keep(name, row_P.astype(np.float16))
        return found


@dataclass(frozen=True, slots=True)
class Cluster:
    """Texts that are alike and more frequent than they were.

    Attributes:
        was: their share in the reference.
        now: their share now.
        typical: ids of those now that are nearest to its middle.
    """

    was: float
    now: float
    typical: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Closer:
    """What a closer look showed.

    Attributes:
        p_value: of the reference's and today's rows being of one kind, by permutations.
        auc: how well one is told from the other on rows not learnt from; 0.5 is not at all.
        found: both are beyond what chance, and what is worth telling, would give.
        clusters: what became more frequent, most first.
    """

    p_value: float
    auc: float
    found: bool
    clusters: tuple[Cluster, ...]


def look_closer(
    before_NP: NDArray[np.float16],
    now_MP: NDArray[np.float16],
    ids: Sequence[str],
    *,
    tested: int = 1,
    seed: int = 0,
) -> Closer:
    """Compares rows of one language by maximum mean discrepancy over random features.

    Args:
        before_NP: of the reference.
        now_MP: of the reservoir.
        ids: of the rows now.
        tested: languages that are looked at together; the p-value must pass for all of them.
        seed: of features, permutations and clusters: the same rows give the same answer.

    Raises:
        DataError: fewer than ten rows on one side: nothing can be said.
    """
    if min(len(before_NP), len(now_MP)) < 10:
        raise DataError("a closer look needs ten rows on each side", hint="wait for more traffic")
    rng = np.random.default_rng(seed)
    rows_AP = np.concatenate([before_NP, now_MP]).astype(np.float64)
    is_new_A = np.arange(len(rows_AP)) >= len(before_NP)
    features_AF = _features(rows_AP, rng)
    p_value = _permuted(features_AF, is_new_A, rng)
    auc = _cross_fitted_auc(features_AF, is_new_A, rng)
    found = auc >= LEAST_AUC and p_value * tested <= ALPHA
    return Closer(p_value, auc, found, _clusters(rows_AP, is_new_A, ids, rng))


class _Plain(msgspec.Struct):
    size: int
    ids: list[str]
    width: Annotated[int, msgspec.Meta(ge=0)]
    rows: str


def _number(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "big")


def _features(rows_AP: Floats, rng: np.random.Generator) -> Floats:
    """Random Fourier features of a Gaussian kernel as wide as rows usually lie apart."""
    one, other = rng.integers(0, len(rows_AP), (2, _PAIRS))
    apart = np.sqrt(((rows_AP[one] - rows_AP[other]) ** 2).sum(axis=1))
    width = float(np.median(apart[one != other])) or 1.0
    waves_PF = rng.normal(size=(rows_AP.shape[1], _FEATURES)) / width
    angles_AF = rows_AP @ waves_PF + rng.uniform(0.0, 2.0 * np.pi, _FEATURES)
    features_AF: Floats = np.sqrt(2.0 / _FEATURES) * np.cos(angles_AF)
    return features_AF


def _permuted(features_AF: Floats, is_new_A: NDArray[np.bool_], rng: np.random.Generator) -> float:
    """Share of random splits, the real one counted, that lie as far apart as the real one."""
    new = int(is_new_A.sum())
    order_RA = rng.random((_PERMUTATIONS, len(is_new_A))).argsort(axis=1)
    chosen_RA = np.concatenate([is_new_A[None], order_RA < new]).astype(np.float64)
    sums_RF = chosen_RA @ features_AF
    others_RF = features_AF.sum(axis=0) - sums_RF
    apart_R = ((sums_RF / new - others_RF / (len(is_new_A) - new)) ** 2).sum(axis=1)
    return float((apart_R >= apart_R[0] * (1.0 - 1e-12)).mean())


def _cross_fitted_auc(
    features_AF: Floats, is_new_A: NDArray[np.bool_], rng: np.random.Generator
) -> float:
    """Each half of the rows is told apart by what was learnt from the other half."""
    fold_A = rng.permutation(len(is_new_A)) % 2
    found = []
    for fold in (0, 1):
        learnt_A = fold_A != fold
        old_AF = features_AF[learnt_A & ~is_new_A]
        new_AF = features_AF[learnt_A & is_new_A]
        spread_FF = np.cov(old_AF.T) + np.cov(new_AF.T)
        spread_FF += _RIDGE * np.trace(spread_FF) / len(spread_FF) * np.eye(len(spread_FF))
        line_F = np.linalg.solve(spread_FF, new_AF.mean(axis=0) - old_AF.mean(axis=0))
        scores_A = features_AF[~learnt_A] @ line_F
        found.append(_auc(scores_A, is_new_A[~learnt_A]))
    return float(np.mean(found))


def _auc(scores_A: Floats, is_new_A: NDArray[np.bool_]) -> float:
    rank_A = scores_A.argsort().argsort() + 1.0
    new = int(is_new_A.sum())
    old = len(is_new_A) - new
    if not new or not old:
        return 0.5
    return float((rank_A[is_new_A].sum() - new * (new + 1) / 2.0) / (new * old))


def _clusters(
    rows_AP: Floats, is_new_A: NDArray[np.bool_], ids: Sequence[str], rng: np.random.Generator
) -> tuple[Cluster, ...]:
    """Lloyd's k-means over all rows; the clusters in which new rows are more than their share."""
    centre_CP = _spread_out(rows_AP, rng)
    for _ in range(_ROUNDS):
        nearest_A = _squares(rows_AP, centre_CP).argmin(axis=1)
        centre_CP = np.stack(
            [
                rows_AP[nearest_A == place].mean(axis=0) if (nearest_A == place).any() else centre
                for place, centre in enumerate(centre_CP)
            ]
        )
    square_AC = _squares(rows_AP, centre_CP)
    nearest_A = square_AC.argmin(axis=1)
    first_new = int((~is_new_A).sum())
    found = []
    for place in range(len(centre_CP)):
        was, now = ((nearest_A[side] == place).mean() for side in (~is_new_A, is_new_A))
        if now <= was:
            continue
        members = np.flatnonzero(is_new_A & (nearest_A == place))
        near = members[square_AC[members, place].argsort()][:_TYPICAL]
        typical = tuple(ids[row - first_new] for row in near.tolist())
        found.append(Cluster(float(was), float(now), typical))
    return tuple(sorted(found, key=lambda cluster: cluster.was - cluster.now))


def _spread_out(rows_AP: Floats, rng: np.random.Generator) -> Floats:
    """First centres, each drawn by its squared distance from those before (k-means++)."""
    centres = [rows_AP[rng.integers(len(rows_AP))]]
    while len(centres) < min(_CLUSTERS, len(rows_AP)):
        square_A = _squares(rows_AP, np.stack(centres)).min(axis=1)
        whole = float(square_A.sum())
        if not whole:
            break
        centres.append(rows_AP[rng.choice(len(rows_AP), p=square_A / whole)])
    return np.stack(centres)


def _squares(rows_AP: Floats, centre_CP: Floats) -> Floats:
    """Squared distances, [A, C]."""
    square_AC: Floats = (
        (rows_AP**2).sum(axis=1)[:, None] - 2.0 * rows_AP @ centre_CP.T + (centre_CP**2).sum(axis=1)
    )
    return np.maximum(square_AC, 0.0)
