"""How close int8 vectors stay to float32 ones: ours and ONNX Runtime's, on real texts.

The model is the starter model, the texts are the support data's, in every language it has. Each
text is computed alone: ONNX Runtime scales activations by tensor, so beside others its answer
moves.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import MissingExtraError
from xlmr.evaluation.speed.contestant import Contestant
from xlmr.evaluation.speed.ours import Ours
from xlmr.evaluation.speed.peers import PEERS, open_peer
from xlmr.evaluation.speed.subject import open_subject
from xlmr.model.pooling import mean, normalise
from xlmr.text.tokenizer import Tokenizer
from xlmr.types import Batch

TEXTS_PER_LANGUAGE = 20


def measure_agreement(
    starter: Path, data: Path, *, threads: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Cosines to float32, by runtime.

    Args:
        starter: the starter model's directory.
        data: a folder of `LANGUAGE.test.jsonl`.
        threads: of every runtime.
        tell: told what is being computed.
    """
    subject = open_subject(str(starter))
    tokenizer = Tokenizer.from_file(starter / "tokenizer.json", max_tokens=512)
    texts = _texts(data)
    batches = [
        (language, _alone(tokenizer.encode(f"query: {text}").ids)) for language, text in texts
    ]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xlmr-bench-")))

        def ours(precision: str) -> Contestant:
            opened = Ours.open(subject, scratch, precision=precision, threads=threads)
            stack.callback(opened.close)
            return opened

        truth = _vectors(ours("fp32"), batches, tell)
        others = [ours("bf16"), ours("int8")]
        peer = next(peer for peer in PEERS if peer.name == "onnxruntime int8")
        try:
            others.append(stack.enter_context(open_peer(peer, subject, threads=threads)))
        except MissingExtraError as fault:
            tell(f"{peer.name} takes no part: {fault.message}")
        found = {one.name: _cosines(_vectors(one, batches, tell), truth, texts) for one in others}
    languages = sorted({language for language, _ in texts})
    return {"texts": len(texts), "languages": languages, "runtimes": found}


def _texts(data: Path) -> list[tuple[str, str]]:
    texts = []
    for path in sorted(data.glob("*.test.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()[:TEXTS_PER_LANGUAGE]
        texts += [(path.name.partition(".")[0], str(json.loads(line)["text"])) for line in lines]
    return texts


def _alone(ids: tuple[int, ...]) -> Batch:
    return Batch(ids_T=np.array(ids, np.int32), starts=np.array([0, len(ids)], np.int32))


def _vectors(
    contestant: Contestant, batches: list[tuple[str, Batch]], tell: Callable[[str], None]
) -> NDArray[np.float64]:
    tell(f"{len(batches)} texts with {contestant.name}")
    vectors = []
    for _, batch in batches:
        (hidden_LD,) = contestant.texts(contestant.prepare(batch)(), batch)
        vectors.append(normalise(mean(hidden_LD)))
    return np.array(vectors, np.float64)


def _cosines(
    vectors_ND: NDArray[np.float64],
    truth_ND: NDArray[np.float64],
    texts: list[tuple[str, str]],
) -> dict[str, Any]:
    cosines_N = (vectors_ND * truth_ND).sum(axis=1)
    worst = int(cosines_N.argmin())
    return {
        "mean": float(cosines_N.mean()),
        "worst": float(cosines_N[worst]),
        "worst_language": texts[worst][0],
    }
