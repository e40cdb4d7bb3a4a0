"""The door of text-embeddings-inference: the same paths, bodies, errors and headers.

Beyond them: a body may name a `model` where several are loaded, and `x-truncated` names texts that
were cut. Where a body names none, the model is meant that is made for what the path asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlmr.serving.dataplane import Dataplane
from xlmr.serving.http.endpoint import Inference, Page
from xlmr.serving.http.health import show_healthy
from xlmr.serving.http.problems import TeiProblem, tei_problem
from xlmr.serving.http.tei import inference, info, requests, tokens

_STATUSES = (400, 401, 403, 404, 405, 413, 415, 422, 424, 429, 500)


def _page(**said: Any) -> Page:
    return Page(method="GET", door="tei", problem=tei_problem, fault=TeiProblem, **said)


def _post(ask: Callable[..., Any], **said: Any) -> Inference:
    return Inference(
        method="POST",
        door="tei",
        problem=tei_problem,
        fault=TeiProblem,
        statuses=_STATUSES,
        ask=ask,
        **said,
    )


EMBED = _post(
    inference.ask_embed,
    path="/embed",
    summary="Embed texts (text-embeddings-inference's shape)",
    description="A list of vectors, one for each text, also where there is one text.",
    request=requests.TeiEmbedRequest,
    response=list[list[float]],
    example={"inputs": ["What is deep learning?", "Was ist Deep Learning?"]},
    reply=[[0.0123, -0.0456], [0.0119, -0.0437]],
    task="embed",
)
EMBED_ALL = _post(
    inference.ask_embed_all,
    path="/embed_all",
    summary="The vector of each token (text-embeddings-inference's shape)",
    description="Of each text the vectors of its tokens, special ones too, as they were computed.",
    request=requests.TeiEmbedAllRequest,
    response=list[list[list[float]]],
    example={"inputs": "Hello"},
    reply=[[[0.21, -0.4], [0.02, 0.11], [0.17, -0.38]]],
    task="embed",
)
PREDICT = _post(
    inference.ask_predict,
    path="/predict",
    summary="Classify texts or pairs (text-embeddings-inference's shape)",
    description=(
        'Labels in falling order of score. `"a"` and `["a", "b"]`, a pair, get one list; a batch, '
        '`[["a"], ["b", "c"]]`, a list of them.'
    ),
    request=requests.TeiPredictRequest,
    response=list[requests.TeiPrediction | list[requests.TeiPrediction]],
    example={"inputs": "أين طلبي؟"},
    reply=[{"score": 0.94, "label": "delivery"}, {"score": 0.06, "label": "refund"}],
    task="classify",
)
RERANK = _post(
    inference.ask_rerank,
    path="/rerank",
    summary="Rank texts by a query (text-embeddings-inference's shape)",
    request=requests.TeiRerankRequest,
    response=list[requests.TeiRank],
    example={"query": "capital of Germany", "texts": ["Paris", "Berlin"], "return_text": True},
    reply=[
        {"index": 1, "score": 0.98, "text": "Berlin"},
        {"index": 0, "score": 0.03, "text": "Paris"},
    ],
    task="rerank",
)
SIMILARITY = _post(
    inference.ask_similarity,
    path="/similarity",
    summary="How near sentences are to one (text-embeddings-inference's shape)",
    description="The cosines of the angles between their vectors, in the order of the sentences.",
    request=requests.TeiSimilarityRequest,
    response=list[float],
    example={
        "inputs": {
            "source_sentence": "What is deep learning?",
            "sentences": ["Was ist Deep Learning?", "Mein Paket ist weg."],
        }
    },
    reply=[0.93, 0.71],
    task="embed",
)
MAIN = _post(
    inference.ask_main,
    path="/",
    summary="Whatever the model is for (text-embeddings-inference's shape)",
    description=(
        "As `/rerank` for a body with a `query`, else as `/predict` or `/embed`: clients that know "
        "a server's address alone come here."
    ),
    request=requests.TeiAnyRequest,
    response=list[Any],
    example={"inputs": "What is deep learning?"},
    reply=[[0.0123, -0.0456]],
    task="embed",
)
TOKENIZE = _post(
    tokens.ask_tokenize,
    path="/tokenize",
    summary="Show texts as tokens (text-embeddings-inference's shape)",
    description="Long texts are not cut. `start` and `stop` count Unicode characters.",
    request=requests.TeiTokenizeRequest,
    response=list[list[requests.TeiSimpleToken]],
    example={"inputs": "Hello world!"},
    reply=[
        [
            {"id": 0, "text": "<s>", "special": True, "start": None, "stop": None},
            {"id": 35378, "text": "Hello", "special": False, "start": 0, "stop": 5},
        ]
    ],
    task="tokenize",
    verb=Dataplane.tokenize,
)
DECODE = _post(
    tokens.ask_decode,
    path="/decode",
    summary="Show token ids as text (text-embeddings-inference's shape)",
    request=requests.TeiDecodeRequest,
    response=list[str],
    example={"ids": [0, 5, 6, 2]},
    reply=["Hello world!"],
    task="detokenize",
    verb=Dataplane.tokenize,
)
INFO = _page(
    path="/info",
    summary="The model and the limits (text-embeddings-inference's shape)",
    response=info.TeiInfo,
    show=info.show_info,
)
HEALTH = _page(
    path="/health",
    summary="Should requests be sent here? (text-embeddings-inference's shape)",
    description="200 with an empty body, or 503.",
    media_type="text/plain",
    statuses=(405, 503),
    role=None,
    show=show_healthy,
)
OPERATIONS = (
    EMBED,
    EMBED_ALL,
    PREDICT,
    RERANK,
    SIMILARITY,
    MAIN,
    TOKENIZE,
    DECODE,
    INFO,
    HEALTH,
)
