"""What we compute against what transformers computes, from the same directory and the same ids.

Expected values come from transformers in this very run; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.tiny import RUNTIMES, tiny_model, tiny_network

from xlmr.model.heads.answer import AnswerHead
from xlmr.model.heads.tag import TagHead
from xlmr.model.predictor import Predictor, load
from xlmr.settings import Settings
from xlmr.types import Encoding

TOLERANCE = 1e-4
TEXTS = (
    "Hello world, where is my parcel?",
    "",
    "你好世界 привет мир",
    "Anna lives in Paris. " * 30,
)
# One text in each of twelve scripts.
SCRIPTS = {
    "Latin": "The parcel arrived, but the box was wet and torn open.",
    "Cyrillic": "Когда вернут деньги за отменённый заказ?",
    "Arabic": "أين طردي؟ كان من المفترض أن يصل أمس.",
    "Hebrew": "איך אפשר לשנות את הכתובת למשלוח?",
    "Devanagari": "मेरा पार्सल अभी तक नहीं आया है।",
    "Bengali": "আমি আমার পাসওয়ার্ড ভুলে গেছি।",
    "Tamil": "எனக்கு விலைப்பட்டியல் தேவை.",
    "Thai": "ฉันต้องการคุยกับเจ้าหน้าที่",
    "Han": "我住在北京市，想退款。",
    "Kana": "ほうそうがやぶれていました。カメラはだいじょうぶです。",
    "Hangul": "보증 기간이 얼마나 되나요?",
    "Greek": "Θέλω να ακυρώσω την παραγγελία μου.",
}


@pytest.fixture(params=[False, True], ids=["post-norm", "pre-norm"])
def pre_norm(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> tuple[str, str]:
    name, precision = request.param
    return name, precision


class Pair:
    """Our predictor and transformers' network on one directory."""

    def __init__(
        self, directory: Path, kind: str, runtime: tuple[str, str], cache: Path, **model: Any
    ) -> None:
        path = tiny_model(directory, kind, **model)
        self.network = tiny_network(
            kind, **{k: v for k, v in model.items() if k not in ("dtype", "max_shard_size")}
        )
        if "dtype" in model:  # the same rounding of the weights; both compute in float32
            self.network = self.network.to(model["dtype"]).float()
        self.predictor = load(
            path,
            runtime=runtime[0],
            precision=runtime[1],
            threads=1,
            settings=Settings(cache_dir=cache),
        )

    def outputs(self, encodings: Sequence[Encoding]) -> Iterator[Any]:
        with torch.no_grad():
            for encoding in encodings:
                yield self.network(input_ids=torch.tensor([encoding.ids]))


@pytest.fixture
def pair(tmp_path: Path, runtime: tuple[str, str], pre_norm: bool) -> Any:
    def build(kind: str, **model: Any) -> Pair:
        return Pair(tmp_path, kind, runtime, tmp_path / "cache", pre_norm=pre_norm, **model)

    return build


def close(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_last_layer(pair: Any, dtype: torch.dtype) -> None:
    both = pair("embed", dtype=dtype)
    prepared = both.predictor.prepare("embed", TEXTS)
    hidden = both.predictor.compute(prepared)
    for hidden_LD, output in zip(hidden, both.outputs(prepared.encodings), strict=True):
        close(hidden_LD, output.last_hidden_state[0])


def test_every_position_of_the_longest_text(pair: Any) -> None:
    both = pair("embed")
    prepared = both.predictor.prepare("embed", ["a " * 510])
    assert len(prepared.encodings[0].ids) == 512
    [hidden_LD] = both.predictor.compute(prepared)
    [output] = both.outputs(prepared.encodings)
    close(hidden_LD, output.last_hidden_state[0])


def test_sentence_vectors(pair: Any) -> None:
    both = pair("embed")
    prepared = both.predictor.prepare("embed", TEXTS)
    for answer, output in zip(
        both.predictor.embed(TEXTS), both.outputs(prepared.encodings), strict=True
    ):
        mean_D = output.last_hidden_state[0].mean(dim=0)
        close(answer.vector, mean_D / mean_D.norm())


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        ("classify", lambda logits: logits.softmax(-1)),
        ("multi_label", lambda logits: logits.sigmoid()),
        ("regression", lambda logits: logits),
    ],
)
def test_labels(pair: Any, kind: str, activation: Any) -> None:
    both = pair(kind)
    prepared = both.predictor.prepare("classify", TEXTS)
    outputs = [output.logits[0] for output in both.outputs(prepared.encodings)]
    names = both.network.config.id2label.values()
    for raw_scores in (False, True):
        answers = both.predictor.classify(TEXTS, raw_scores=raw_scores)
        for answer, logits in zip(answers, outputs, strict=True):
            found = {each.label: each.score for each in answer.labels}
            expected = logits if raw_scores else activation(logits)
            close([found[name] for name in names], expected)
            assert [each.score for each in answer.labels] == sorted(found.values(), reverse=True)


@pytest.mark.parametrize("kind", ["zero_shot", "classify", "regression"])
def test_labels_of_pairs(pair: Any, kind: str) -> None:
    """Two texts, as the tokenizer's own template puts them together and transformers reads them."""
    both = pair(kind)
    pairs = [("where is my parcel", "anna lives in Paris"), ("你好", "!"), (TEXTS[0], "мир")]
    path = both.predictor.bundle.directory
    tokenize = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    names = both.network.config.id2label.values()
    answers = both.predictor.classify(pairs, raw_scores=True)
    for (first, second), answer in zip(pairs, answers, strict=True):
        ids = tokenize(first, second, return_tensors="pt")["input_ids"]
        assert answer.accounting.tokens == ids.shape[1]
        with torch.no_grad():
            [logits] = both.network(input_ids=ids).logits
        found = {each.label: each.score for each in answer.labels}
        close([found[name] for name in names], logits)


def test_labels_of_tokens(pair: Any) -> None:
    both = pair("tag")
    bundle = both.predictor.bundle
    head = TagHead.open(bundle.weights(), bundle.raw_config)
    prepared = both.predictor.prepare("tag", TEXTS)
    hidden = both.predictor.compute(prepared)
    for hidden_LD, output in zip(hidden, both.outputs(prepared.encodings), strict=True):
        close(head.probabilities(hidden_LD), output.logits[0].softmax(-1))


def test_answer_spans(pair: Any) -> None:
    both = pair("answer")
    head = AnswerHead.open(both.predictor.bundle.weights())
    context = "Anna lives in Paris. " * 5
    prepared = both.predictor.prepare("answer", [("where is Anna", context)])
    [hidden_LD] = both.predictor.compute(prepared)
    [output] = both.outputs(prepared.encodings)
    start_L, end_L = output.start_logits[0], output.end_logits[0]
    close(head.logits(hidden_LD), torch.stack([start_L, end_L]))

    segments = torch.tensor(prepared.encodings[0].segments)
    allowed = segments == 1
    allowed[0] = True
    starts = start_L.masked_fill(~allowed, -torch.inf).softmax(-1)
    ends = end_L.masked_fill(~allowed, -torch.inf).softmax(-1)
    spans = (starts[:, None] * ends[None, :]).triu()
    [answer] = both.predictor.answer(
        [("where is Anna", context)], must_answer=True, max_answer_tokens=len(segments)
    )
    close(answer.no_answer_score, starts[0] * ends[0])
    close(answer.score, spans[1:, 1:].max())
    first, last = divmod(int(spans[1:, 1:].argmax()), len(segments) - 1)
    offsets = prepared.encodings[0].offsets
    assert (answer.start, answer.end) == (offsets[first + 1][0], offsets[last + 1][1])
    assert answer.text == context[answer.start : answer.end]


def test_relevance(pair: Any) -> None:
    both = pair("rerank")
    documents = ["Anna lives in Paris", "where is my parcel", ""]
    query = "where is Anna"
    encodings = [both.predictor.bundle.tokenizer.encode(query, text) for text in documents]
    logits = [float(output.logits[0, 0]) for output in both.outputs(encodings)]
    order = sorted(range(3), key=lambda i: -logits[i])
    for raw_scores in (False, True):
        ranked = both.predictor.rerank(query, documents, raw_scores=raw_scores)
        assert [each.index for each in ranked] == order
        expected = torch.tensor([logits[i] for i in order])
        close([each.score for each in ranked], expected if raw_scores else expected.sigmoid())


@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot(pair: Any, multi_label: bool) -> None:
    both = pair("zero_shot")  # labels: CONTRADICTION, neutral, Entailment
    text, labels = "where is my parcel", ["delivery", "refund", "money"]
    encode = both.predictor.bundle.tokenizer.encode
    encodings = [encode(text, f"This example is {label}.") for label in labels]
    logits_NC = torch.stack([output.logits[0] for output in both.outputs(encodings)])
    expected_N = logits_NC[:, 2].softmax(0)
    if multi_label:
        expected_N = logits_NC[:, [0, 2]].softmax(1)[:, 1]
    [answer] = both.predictor.zero_shot([text], labels, multi_label=multi_label)
    found = {each.label: each.score for each in answer.labels}
    close([found[label] for label in labels], expected_N)


def test_masked_words(pair: Any) -> None:
    both = pair("fill")
    text = "hello <mask>, where is my <mask>"
    tokenizer = both.predictor.bundle.tokenizer
    encoding = tokenizer.encode(text)
    [output] = both.outputs([encoding])
    [filling] = both.predictor.fill([text], top=7)
    masks = [i for i, token in enumerate(encoding.ids) if token == tokenizer.mask_id]
    assert len(filling.masks) == len(masks) == 2
    for candidates, i in zip(filling.masks, masks, strict=True):
        expected = output.logits[0, i].softmax(-1).topk(7)
        close([each.score for each in candidates], expected.values)
        pieces = [tokenizer.decode([piece]) or tokenizer.piece(piece) for piece in expected.indices]
        assert [each.label for each in candidates] == pieces


@pytest.mark.starter
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_starter_model(
    script: str, starter_pair: tuple[Predictor, Any], runtime: tuple[str, str]
) -> None:
    predictor, network = starter_pair
    prepared = predictor.prepare("embed", [SCRIPTS[script]])
    [hidden_LD] = predictor.compute(prepared)
    with torch.no_grad():
        theirs = network(input_ids=torch.tensor([prepared.encodings[0].ids]))
    close(hidden_LD, theirs.last_hidden_state[0])


@pytest.fixture(scope="module")
def starter_network(starter: Path) -> Any:
    return transformers.AutoModel.from_pretrained(starter, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def starter_predictors(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    opened: dict[tuple[str, str], Predictor] = {}

    def get(runtime: tuple[str, str]) -> Predictor:
        if runtime not in opened:
            settings = Settings(cache_dir=tmp_path_factory.mktemp("cache"))
            name, precision = runtime
            opened[runtime] = load(starter, runtime=name, precision=precision, settings=settings)
        return opened[runtime]

    yield get
    for predictor in opened.values():
        predictor.close()


@pytest.fixture
def starter_pair(
    runtime: tuple[str, str], starter_predictors: Any, starter_network: Any
) -> tuple[Predictor, Any]:
    return starter_predictors(runtime), starter_network
