"""The verbs, end to end on tiny models. test_parity.py holds the numbers against transformers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import KINDS, RUNTIMES, tiny_model, write_linear_head

import xlmr
from xlmr.errors import CancelledError, InputError, SettingsError, TaskError, TooLongError
from xlmr.model.predictor import Predictor, load
from xlmr.model.prepared import ClassifyOptions, EmbedOptions, batches
from xlmr.settings import Settings
from xlmr.types import Accounting, Encoding

FULL = "a " * 510  # with <s> and </s> exactly 512 tokens
LONGER = "a " * 511
Open = Callable[..., Predictor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("models")
    paths = {kind: tiny_model(directory, kind) for kind in KINDS}
    paths["linear"] = tiny_model(directory / "linear", "embed")
    write_linear_head(paths["linear"], ("refund", "delivery", "cancel"))
    return paths


@pytest.fixture(scope="module", params=RUNTIMES)
def open_kind(
    request: pytest.FixtureRequest,
    models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Open]:
    name, precision = request.param
    opened: dict[tuple[str, int], Predictor] = {}

    def get(kind: str, *, batch_tokens: int = 4096) -> Predictor:
        if (kind, batch_tokens) not in opened:
            settings = Settings(
                cache_dir=tmp_path_factory.mktemp("cache"), batch_tokens=batch_tokens, threads=1
            )
            opened[kind, batch_tokens] = load(
                models[kind], runtime=name, precision=precision, settings=settings
            )
        return opened[kind, batch_tokens]

    yield get
    for predictor in opened.values():
        predictor.close()


def ask_everything(predictor: Predictor, text: str, **long: Any) -> list[Any]:
    """One answer for each verb that the model has."""
    verbs: dict[str, Callable[[], list[Any]]] = {
        "classify": lambda: predictor.classify([text], **long),
        "embed": lambda: predictor.embed([text], **long),
        "tag": lambda: predictor.tag([text], **long),
        "answer": lambda: predictor.answer([("where is it", text)], **long),
        "rerank": lambda: predictor.rerank("where is it", [text], **long),
        "zero_shot": lambda: predictor.zero_shot([text], ["delivery", "refund"], **long),
    }
    return [verbs[task]()[0] for task in sorted(predictor.tasks & set(verbs))]


def numbers(answer: Any) -> list[float]:
    """Every number of an answer that the model computed."""
    if hasattr(answer, "vector"):
        return list(answer.vector.tolist())
    if hasattr(answer, "entities"):
        return [entity.score for entity in answer.entities]
    if hasattr(answer, "labels"):
        return [label.score for label in answer.labels]
    return [answer.score]


# --- hostile texts -----------------------------------------------------------------------------

HOSTILE = {
    "empty": "",
    "blanks": " \t\n\u3000\u00a0\u2003 ",
    "nul": "where\0is my\0parcel\0",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "right-to-left marks": "\u202eabc\u202c \u200fשלום\u200f \u2067مرحبا\u2069",
    "joined emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 e\u0301\u0301\u0301",
    "zero widths": "par\u200bcel \ufeffis\u2060here\u00ad",
    "beyond the basic plane": "𝓱𝓮𝓵𝓵𝓸 𒀀 \U0010ffff",
    "written specials": "<s> </s> <pad> <unk> <mask> </s></s>",
    "accents without a letter": "\u0301" * 50,
}


@pytest.mark.parametrize("kind", ["classify", "embed", "tag", "answer", "zero_shot", "rerank"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_answered(open_kind: Open, kind: str, text: str) -> None:
    for long in ("truncate", "window", "error"):
        for answer in ask_everything(open_kind(kind), text, long=long):
            assert np.isfinite(numbers(answer)).all()
            assert not answer.accounting.truncated


@pytest.mark.parametrize("kind", ["classify", "tag"])
@pytest.mark.parametrize("character", ["a", "北", "!", "\u0301", "👍"])
def test_a_megabyte_of_one_character(open_kind: Open, kind: str, character: str) -> None:
    text = character * (1_000_000 // len(character.encode()))
    for answer in ask_everything(open_kind(kind), text, long="truncate"):
        assert np.isfinite(numbers(answer)).all()
        cut = answer.accounting.total_tokens > 512
        assert answer.accounting.truncated == cut


@pytest.mark.parametrize("kind", ["classify", "embed", "tag", "answer", "zero_shot", "rerank"])
@pytest.mark.parametrize("text", ["\ud800", "parcel \udfff here", "\udc00\ud83d"])
def test_lone_surrogates_are_refused_without_repeating_the_text(
    open_kind: Open, kind: str, text: str
) -> None:
    with pytest.raises(InputError) as refused:
        ask_everything(open_kind(kind), text)
    assert "parcel" not in str(refused.value)
    str(refused.value).encode()


def test_an_empty_text_is_two_tokens(open_kind: Open) -> None:
    [answer] = open_kind("classify").classify([""])
    assert answer.accounting == Accounting(
        tokens=2, total_tokens=2, truncated=False, windows=1, unknown=0
    )


@pytest.mark.parametrize("kind", [*KINDS, "linear"])
def test_no_items_no_answers(open_kind: Open, kind: str) -> None:
    predictor = open_kind(kind)
    for task in predictor.tasks - {"rerank", "zero_shot"}:
        prepared = predictor.prepare(task, [])
        assert prepared.finish(predictor.compute(prepared)) == []


# --- long texts --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classify", "multi_label", "linear", "embed", "tag"])
def test_512_tokens_pass(open_kind: Open, kind: str) -> None:
    predictor = open_kind(kind)
    text = FULL if kind != "linear" else "a " * (510 - len(_prompt_ids(predictor)))
    for long in ("truncate", "window", "error"):
        for answer in ask_everything(predictor, text, long=long):
            assert answer.accounting.windows == 1
            assert not answer.accounting.truncated


def _prompt_ids(predictor: Predictor) -> tuple[int, ...]:
    return predictor.bundle.tokenizer.encode("query: ").ids[1:-1]


@pytest.mark.parametrize("kind", ["classify", "multi_label", "embed", "tag"])
def test_513_tokens_are_cut_and_said_to_be(open_kind: Open, kind: str) -> None:
    [answer] = ask_everything(open_kind(kind), LONGER, long="truncate")
    assert answer.accounting == Accounting(
        tokens=512, total_tokens=513, truncated=True, windows=1, unknown=0
    )


@pytest.mark.parametrize("kind", ["classify", "multi_label", "embed", "tag"])
def test_513_tokens_are_windowed_and_said_to_be(open_kind: Open, kind: str) -> None:
    [answer] = ask_everything(open_kind(kind), LONGER, long="window")
    assert answer.accounting == Accounting(
        tokens=1024, total_tokens=513, truncated=False, windows=2, unknown=0
    )


@pytest.mark.parametrize("kind", ["classify", "embed", "tag", "answer", "zero_shot", "rerank"])
def test_513_tokens_are_refused_with_their_place(open_kind: Open, kind: str) -> None:
    with pytest.raises(TooLongError) as refused:
        ask_everything(open_kind(kind), LONGER, long="error")
    assert refused.value.path == "$[0]"


def test_the_place_is_the_items(open_kind: Open) -> None:
    with pytest.raises(TooLongError) as refused:
        open_kind("classify").classify(["a", "b", LONGER], long="error")
    assert refused.value.path == "$[2]"


@pytest.mark.parametrize("kind", ["answer", "rerank", "zero_shot"])
def test_long_pairs(open_kind: Open, kind: str) -> None:
    predictor = open_kind(kind)
    for answer in ask_everything(predictor, "a parcel " * 400, long="truncate"):
        assert (answer.accounting.windows, answer.accounting.truncated) == (1, True)
    for answer in ask_everything(predictor, "a parcel " * 400, long="window"):
        assert answer.accounting.windows > 1
        assert not answer.accounting.truncated


def test_a_question_that_leaves_the_context_no_room(open_kind: Open) -> None:
    with pytest.raises(TooLongError) as refused:
        open_kind("answer").answer([("a", "b"), ("where " * 600, "here " * 600)])
    assert refused.value.path == "$[1]"


def test_windows_of_a_classification_weigh_their_tokens(open_kind: Open) -> None:
    predictor = open_kind("classify")
    text = "where is my parcel " * 200 + "refund the money " * 200
    options = ClassifyOptions(long="window")
    prepared = predictor.prepare("classify", [text], options)
    assert len(prepared.encodings) > 2
    parts = [
        predictor.prepare("classify", ["a"]).finish([hidden])[0]
        for hidden in predictor.compute(prepared)
    ]
    weights = [len(encoding.ids) for encoding in prepared.encodings]
    [whole] = predictor.classify([text], long="window")
    for label in whole.labels:
        scores = [each.score for part in parts for each in part.labels if each.label == label.label]
        assert label.score == pytest.approx(np.average(scores, weights=weights), abs=1e-6)
    assert sum(label.score for label in whole.labels) == pytest.approx(1, abs=1e-5)


def test_windows_of_a_vector_are_averaged_before_they_are_normalised(open_kind: Open) -> None:
    predictor = open_kind("embed")
    text = "where is my parcel " * 300
    prepared = predictor.prepare("embed", [text], EmbedOptions(long="window"))
    pooled = [hidden_LD.mean(axis=0) for hidden_LD in predictor.compute(prepared)]
    mean_D = np.average(pooled, axis=0, weights=[len(e.ids) for e in prepared.encodings])
    [found] = predictor.embed([text], long="window")
    np.testing.assert_allclose(found.vector, mean_D / np.linalg.norm(mean_D), atol=1e-6)


def test_entities_are_found_in_every_window(open_kind: Open) -> None:
    predictor = open_kind("tag")
    text = "Anna lives in Paris, where is my parcel. " * 120
    [cut] = predictor.tag([text])
    [whole] = predictor.tag([text], long="window")
    assert whole.accounting.windows > 2
    assert max(entity.end for entity in cut.entities) < len(text) / 2
    assert max(entity.end for entity in whole.entities) > len(text) - 60
    assert len({(entity.start, entity.end) for entity in whole.entities}) == len(whole.entities)
    for entity in whole.entities:
        assert text[entity.start : entity.end] == entity.text


def test_every_window_carries_the_prompt(open_kind: Open) -> None:
    predictor = open_kind("linear")
    ids = _prompt_ids(predictor)
    assert ids
    options = ClassifyOptions(long="window")
    prepared = predictor.prepare("classify", ["where is my parcel " * 400], options)
    assert len(prepared.encodings) > 2
    for encoding in prepared.encodings:
        assert encoding.ids[1 : len(ids) + 1] == ids
        assert encoding.ids[len(ids) + 1 : len(ids) + 3] != ids
        assert len(encoding.ids) <= 512


def test_a_start_is_cut_up_to_the_prompt(open_kind: Open) -> None:
    predictor = open_kind("linear")
    prompt = _prompt_ids(predictor)
    words = " ".join(["parcel"] * 600 + ["paris", "berlin"])
    options = ClassifyOptions(long="truncate_left")
    [encoding] = predictor.prepare("classify", [words], options).encodings
    [whole] = predictor.bundle.tokenizer.encode_many_whole([f"query: {words}"])
    assert len(encoding.ids) == len(encoding.offsets) == len(encoding.segments) == 512
    assert encoding.ids[: len(prompt) + 1] == (0, *prompt)
    assert encoding.ids[len(prompt) + 1 :] == whole.ids[len(prompt) + 1 - 512 :]
    [answer] = predictor.classify([words], long="truncate_left")
    assert answer.accounting.truncated
    assert answer.accounting.total_tokens == len(whole.ids)
    [short] = predictor.classify(["paris"], long="truncate_left")
    assert short == predictor.classify(["paris"])[0]


def test_a_pairs_start_is_never_cut(open_kind: Open) -> None:
    predictor = open_kind("classify")
    items = ["hello", ("hello", "parcel " * 600)]
    with pytest.raises(InputError, match="never at its starts") as refused:
        predictor.classify(items, long="truncate_left")
    assert refused.value.path == "$[1]"


def test_vectors_of_tokens(open_kind: Open) -> None:
    predictor = open_kind("embed")
    texts = ["where is my parcel", "hello"]
    prepared = predictor.prepare("embed", texts, EmbedOptions(each_token=True))
    assert prepared.rows == "all"
    found = prepared.finish(predictor.compute(prepared))
    plain = predictor.embed(texts, normalize=False)
    for answer, expected in zip(found, plain, strict=True):
        assert answer.vector.shape == (answer.accounting.tokens, 32)
        np.testing.assert_allclose(answer.vector.mean(axis=0), expected.vector, atol=1e-5)
    for wrong, path in (
        (EmbedOptions(each_token=True, dimensions=4), "$.dimensions"),
        (EmbedOptions(each_token=True, normalize=True), "$.normalize"),
        (EmbedOptions(each_token=True, long="window"), "$.long"),
    ):
        with pytest.raises(InputError) as refused:
            predictor.prepare("embed", texts, wrong)
        assert refused.value.path == path


# --- the verbs ---------------------------------------------------------------------------------


def test_linear_head_reads_the_prompt(open_kind: Open) -> None:
    predictor = open_kind("linear")
    [answer] = predictor.classify(["where is my parcel"], top=2)
    assert len(answer.labels) == 2
    assert answer.label == answer.labels[0].label
    [prepared] = predictor.prepare("classify", ["where is my parcel"]).encodings
    assert prepared.ids == predictor.bundle.tokenizer.encode("query: where is my parcel").ids


def test_shorter_vectors(open_kind: Open) -> None:
    predictor = open_kind("embed")
    [whole], [short], [raw] = (
        predictor.embed(["hello world"], **options)
        for options in ({}, {"dimensions": 8}, {"dimensions": 8, "normalize": False})
    )
    assert whole.vector.shape == (32,)
    assert whole.vector.dtype == np.float32
    assert np.linalg.norm(whole.vector) == pytest.approx(1, abs=1e-6)
    assert short.vector.shape == (8,)
    assert np.linalg.norm(short.vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(raw.vector / np.linalg.norm(raw.vector), short.vector, rtol=1e-5)


def test_words_that_were_split_before(open_kind: Open) -> None:
    predictor = open_kind("tag")
    assert predictor.tag([["Anna", "lives", "in", "Paris"]]) == predictor.tag(
        ["Anna lives in Paris"]
    )


def test_fill_says_what_it_cannot(open_kind: Open) -> None:
    predictor = open_kind("fill")
    with pytest.raises(InputError) as refused:
        predictor.fill(["hello <mask>", "hello"])
    assert refused.value.path == "$[1]"
    with pytest.raises(InputError, match="in the part that the model reads"):
        predictor.fill([LONGER + "<mask>"])


def test_a_model_says_what_it_cannot(open_kind: Open) -> None:
    with pytest.raises(TaskError, match="it can: embed"):
        open_kind("embed").classify(["a"])
    with pytest.raises(TaskError):
        open_kind("classify").zero_shot(["a"], ["b"])
    with pytest.raises(TaskError):
        open_kind("embed").prepare("dance", ["a"])


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda p: p.classify(["a", 4]), "$[1]"),
        (lambda p: p.classify([None]), "$[0]"),
        (lambda p: p.classify([b"a"]), "$[0]"),
        (lambda p: p.classify("a"), "$"),
        (lambda p: p.classify(4), "$"),
        (lambda p: p.classify(None), "$"),
        (lambda p: p.classify(["a"], top=0), "$.top"),
        (lambda p: p.classify(["a"], top=True), "$.top"),
        (lambda p: p.classify(["a"], long="cut"), "$.long"),
        (lambda p: p.zero_shot(["a"], []), "$.labels"),
        (lambda p: p.zero_shot(["a"], "b"), "$.labels"),
        (lambda p: p.zero_shot(["a"], ["b", 4]), "$.labels[1]"),
        (lambda p: p.zero_shot(["a"], ["b"], template="no place"), "$.template"),
        (lambda p: p.zero_shot(["a"], ["b", "c " * 600]), "$.labels[1]"),
        (lambda p: p.zero_shot([4], ["b"]), "$[0]"),
        (lambda p: p.zero_shot(["a"], ["b", "\ud800"]), "$.labels[1]"),
        (lambda p: p.zero_shot(["a", "\ud800"], ["b"]), "$[1]"),
        (lambda p: p.prepare("classify", ["a"], EmbedOptions()), "$"),
        (lambda p: p.prepare("zero_shot", ["a"]), "$"),
    ],
)
def test_wrong_input_is_placed(open_kind: Open, ask: Any, path: str) -> None:
    with pytest.raises(InputError) as refused:
        ask(open_kind("zero_shot"))
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("kind", "ask", "path"),
    [
        ("embed", lambda p: p.embed(["a"], dimensions=33), "$.dimensions"),
        ("embed", lambda p: p.embed(["a"], dimensions=0), "$.dimensions"),
        ("embed", lambda p: p.embed(["a"], prompt="unknown"), "$.prompt"),
        ("rerank", lambda p: p.rerank(4, ["a"]), "$.query"),
        ("rerank", lambda p: p.rerank("a", ["a", None]), "$[1]"),
        ("rerank", lambda p: p.rerank("\ud800", ["a", "b"]), "$.query"),
        ("rerank", lambda p: p.rerank("a", ["a", "\ud800"]), "$[1]"),
        ("rerank", lambda p: p.rerank("a", ["a", "b " * 600], long="error"), "$[1]"),
        ("answer", lambda p: p.answer([("a", "b"), "ab"]), "$[1]"),
        ("answer", lambda p: p.answer([("a",)]), "$[0]"),
        ("answer", lambda p: p.answer([4]), "$[0]"),
        ("answer", lambda p: p.answer([("a", 4)]), "$[0][1]"),
        ("answer", lambda p: p.answer([("a", "b")], max_answer_tokens=0), "$.max_answer_tokens"),
        ("tag", lambda p: p.tag([["a", 4]]), "$[0][1]"),
        ("tag", lambda p: p.tag(["a", 4]), "$[1]"),
        ("tag", lambda p: p.tag("a"), "$"),
        ("fill", lambda p: p.fill(["<mask>"], top=0), "$.top"),
    ],
)
def test_wrong_input_of_other_verbs_is_placed(
    open_kind: Open, kind: str, ask: Any, path: str
) -> None:
    with pytest.raises(InputError) as refused:
        ask(open_kind(kind))
    assert refused.value.path == path


# --- computing ---------------------------------------------------------------------------------


def test_an_answer_does_not_depend_on_its_batch(open_kind: Open) -> None:
    texts = [f"where is my parcel {'a ' * i}" for i in range(40)]
    together = open_kind("embed").embed(texts)
    split = open_kind("embed", batch_tokens=512).embed(texts)
    alone = [open_kind("embed").embed([text])[0] for text in texts]
    for one, other, third in zip(together, split, alone, strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)
        np.testing.assert_array_equal(one.vector, third.vector)


def test_prepare_compute_finish_is_what_the_verbs_do(open_kind: Open) -> None:
    predictor = open_kind("classify")
    prepared = predictor.prepare("classify", ["hello", "world"])
    vectors = predictor.compute(prepared)
    assert prepared.rows == "first"
    assert [vector.shape for vector in vectors] == [(1, 32), (1, 32)]
    assert prepared.finish(vectors) == predictor.classify(["hello", "world"])


def test_many_threads_get_the_same_answers(open_kind: Open) -> None:
    predictor = open_kind("classify")
    texts = [f"where is my parcel {'a ' * i}" for i in range(10)]
    expected = predictor.classify(texts)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(predictor.classify(texts))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8


@given(lengths=st.lists(st.integers(1, 30), max_size=40), budget=st.integers(1, 60))
def test_batches_keep_the_order_and_the_budget(lengths: list[int], budget: int) -> None:
    encodings = [
        Encoding(ids=(i,) * n, offsets=(), segments=(), total_tokens=n, unknown=0)
        for i, n in enumerate(lengths)
    ]
    made = list(batches(encodings, budget))
    assert [encoding for batch in made for encoding in batch] == encodings
    for batch in made:
        assert batch
        assert len(batch) == 1 or sum(len(encoding.ids) for encoding in batch) <= budget


# --- opening -----------------------------------------------------------------------------------


def test_load_follows_the_environment(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XLMR_RUNTIME", "reference")
    monkeypatch.setenv("XLMR_CACHE_DIR", str(tmp_path))
    with xlmr.load(str(models["classify"])) as predictor:
        assert predictor.runtime.name.startswith("reference")
        assert predictor.max_tokens == 512
        assert predictor.tasks == {"classify"}


def test_an_unknown_runtime(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="abacus"):
        load(models["embed"], runtime="abacus", settings=Settings(cache_dir=tmp_path))


def test_closed_is_closed(models: dict[str, Path], tmp_path: Path) -> None:
    settings = Settings(runtime="reference", cache_dir=tmp_path)
    with load(models["embed"], settings=settings) as predictor:
        predictor.runtime.warm()
    predictor.close()
    with pytest.raises(CancelledError):
        predictor.embed(["a"])
