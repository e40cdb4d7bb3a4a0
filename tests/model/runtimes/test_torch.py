"""The torch runtime against the reference and itself; its CUDA path where there is a GPU."""

from __future__ import annotations

import importlib.util
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.tiny import tiny_model

from xlmr.errors import (
    BudgetError,
    CancelledError,
    InputError,
    MissingExtraError,
    SettingsError,
)
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.predictor import load
from xlmr.model.runtimes import open_runtime, torch_encoder, torch_graphs
from xlmr.model.runtimes.reference import ReferenceRuntime
from xlmr.model.runtimes.torch_encoder import attend_in_one, forward, lay_out, row_of
from xlmr.model.runtimes.torch_runtime import TorchRuntime
from xlmr.types import Batch, Rows

REPOSITORY = Path(__file__).resolve().parents[3]
LENGTHS = [3, 1, 17, 64, 3, 30, 17]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def batch_of(lengths: list[int], vocabulary: int, seed: int = 0) -> Batch:
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = np.random.default_rng(seed).integers(0, vocabulary, int(starts[-1]))
    return Batch(ids_T=ids.astype(np.int32), starts=starts)


def alone(batch: Batch, text: int) -> Batch:
    begin, end = batch.starts[text], batch.starts[text + 1]
    return Batch(ids_T=batch.ids_T[begin:end], starts=np.array([0, end - begin], np.int32))


def open_torch(
    bundle: Bundle, precision: str = "fp32", *, device: str = "cpu", budget: int = 4096
) -> TorchRuntime:
    return TorchRuntime.open(
        bundle, precision=precision, threads=0, batch_tokens=budget, device=device
    )


def cosines(got: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    return np.asarray((got * expected).sum(1) / lengths)


@pytest.fixture(scope="module", params=[False, True], ids=["post-norm", "pre-norm"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tiny_model(tmp_path_factory.mktemp("tiny"), kind="embed", pre_norm=request.param)
    return open_bundle(directory)


@pytest.fixture(scope="module")
def runtime(tiny: Bundle) -> TorchRuntime:
    return open_torch(tiny)


def test_fp32_agrees_with_the_reference(tiny: Bundle, runtime: TorchRuntime) -> None:
    batch = batch_of(LENGTHS, tiny.config.vocabulary)
    expected = ReferenceRuntime.open(tiny).run(batch)
    got = runtime.run(batch)
    np.testing.assert_array_equal(got.starts, batch.starts)
    assert got.hidden_TD.dtype == np.float32
    np.testing.assert_allclose(got.hidden_TD, expected.hidden_TD, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.9995), ("fp16", 0.99999)])
def test_half_precisions_stay_close(tiny: Bundle, precision: str, least: float) -> None:
    batch = batch_of(LENGTHS, tiny.config.vocabulary)
    expected = ReferenceRuntime.open(tiny).run(batch).hidden_TD
    got = open_torch(tiny, precision).run(batch).hidden_TD
    assert got.dtype == np.float32
    assert cosines(got, expected).min() > least


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=20), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_a_text_gives_the_same_answer_in_any_company(
    tiny: Bundle, runtime: TorchRuntime, lengths: list[int], seed: int
) -> None:
    """To a few units in the last place: the matrix library picks kernels by the number of rows."""
    batch = batch_of(lengths, tiny.config.vocabulary, seed)
    together = runtime.run(batch).hidden_TD
    largest = np.abs(together).max()
    first = runtime.run(batch, rows="first")
    np.testing.assert_array_equal(first.starts, np.arange(len(lengths) + 1))
    np.testing.assert_allclose(
        first.hidden_TD, together[batch.starts[:-1]], rtol=0, atol=1e-6 * largest
    )
    for text in (0, len(lengths) - 1):
        begin, end = batch.starts[text], batch.starts[text + 1]
        lone = runtime.run(alone(batch, text)).hidden_TD
        np.testing.assert_allclose(lone, together[begin:end], rtol=0, atol=1e-6 * largest)


def undefined_tail_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts_Q: torch.Tensor,
    starts_B: torch.Tensor,
    longest_Q: int,
    longest: int,
) -> torch.Tensor:
    """What `varlen_attn` promises, text by text; rows of no text come back as NaN."""
    mixed = torch.full_like(query, torch.nan)
    for text in range(len(starts_B) - 1):
        asked = slice(starts_Q[text], starts_Q[text + 1])
        read = slice(starts_B[text], starts_B[text + 1])
        assert asked.stop - asked.start <= longest_Q
        assert read.stop - read.start <= longest
        assert (asked.stop > asked.start) == (read.stop > read.start)  # an empty text asks nothing
        mixed[asked] = torch.nn.functional.scaled_dot_product_attention(
            query[asked].transpose(0, 1), key[read].transpose(0, 1), value[read].transpose(0, 1)
        ).transpose(0, 1)
    return mixed


@pytest.mark.parametrize("lengths", [LENGTHS, [16], [1] * 16, [5, 6]])
@pytest.mark.parametrize("rows", ["all", "first"])
def test_the_rows_a_graph_adds_change_no_answer(
    tiny: Bundle,
    runtime: TorchRuntime,
    monkeypatch: pytest.MonkeyPatch,
    lengths: list[int],
    rows: Rows,
) -> None:
    """The layout a graph is captured with, run without one; what it does not define is NaN."""
    monkeypatch.setattr(torch_encoder, "varlen_attn", undefined_tail_attention)
    config, first = tiny.config, rows == "first"
    batch = batch_of(lengths, config.vocabulary)
    weights = tiny.weights()
    arrays = {name: weights.encoder(name) for name in weights.encoder_names()}
    tensors = torch_encoder.load(arrays, config, torch.device("cpu"), torch.float32)
    tokens, texts, longest, _ = torch_graphs.shape_of(batch, first, config)
    for more in (0, 1):  # an exact fit and more texts than there are
        laid = torch.from_numpy(lay_out(batch, config.pad_id, tokens, texts + more))
        row = row_of(laid, tokens, texts + more, longest)
        hidden = forward(row, tensors, config, attend_in_one, first=first).numpy()
        expected = runtime.run(batch, rows=rows).hidden_TD
        np.testing.assert_allclose(hidden[: len(expected)], expected, atol=1e-5, rtol=0)


@given(count=st.integers(1, torch_graphs.MOST_TOKENS))
def test_buckets_hold_their_batch_and_waste_less_than_a_quarter(count: int) -> None:
    rounded = torch_graphs.bucket(count, 16)
    assert count <= rounded <= torch_graphs.MOST_TOKENS
    assert rounded - count < max(16, count / 4)
    assert torch_graphs.bucket(rounded, 16) == rounded


def test_there_are_few_buckets() -> None:
    counts = range(1, torch_graphs.MOST_TOKENS + 1)
    assert len({torch_graphs.bucket(count, 16) for count in counts}) <= 32


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [([16], (16, 1, 128, False)), ([17, 9, 4], (32, 4, 128, False)), ([200], (224, 1, 256, False))],
)
def test_the_shape_of_a_graph(
    tiny: Bundle, lengths: list[int], shape: tuple[int, int, int, bool]
) -> None:
    batch = batch_of(lengths, tiny.config.vocabulary)
    assert torch_graphs.shape_of(batch, False, tiny.config) == shape


def test_no_texts(tiny: Bundle, runtime: TorchRuntime) -> None:
    empty = Batch(np.zeros(0, np.int32), np.zeros(1, np.int32))
    assert runtime.run(empty).hidden_TD.shape == (0, tiny.config.hidden)
    np.testing.assert_array_equal(runtime.run(empty, rows="first").starts, [0])


def test_what_cannot_be_computed_is_refused(tiny: Bundle) -> None:
    small, vocabulary = open_torch(tiny, budget=600), tiny.config.vocabulary
    with pytest.raises(BudgetError):
        small.run(batch_of([512, 89], vocabulary))
    with pytest.raises(InputError):
        small.run(batch_of([513], vocabulary))
    with pytest.raises(InputError):
        small.run(Batch(np.array([0, vocabulary], np.int32), np.array([0, 2], np.int32)))
    with pytest.raises(InputError):
        small.run(Batch(np.array([0, 2], np.int32), np.array([0, 0, 2], np.int32)))


def test_int8_is_the_native_runtimes(tiny: Bundle) -> None:
    with pytest.raises(SettingsError, match="native"):
        open_runtime(tiny, name="torch", precision="int8")


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there(tiny: Bundle, device: str) -> None:
    with pytest.raises(SettingsError, match=device):
        open_torch(tiny, device=device)


def test_without_torch_the_extra_is_named(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch_runtime", "torch_encoder", "torch_graphs"):
        monkeypatch.delitem(sys.modules, f"xlmr.model.runtimes.{module}")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xlmr\[train\]'"):
        open_runtime(tiny, name="torch", precision="fp32")


def test_threads_are_set_only_when_asked_for(tiny: Bundle) -> None:
    before = torch.get_num_threads()
    try:
        open_runtime(tiny, name="torch", precision="fp32", threads=0)
        assert torch.get_num_threads() == before
        open_runtime(tiny, name="torch", precision="fp32", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_several_callers_get_their_own_answers(tiny: Bundle, runtime: TorchRuntime) -> None:
    batches = [batch_of([5 + seed, 30, 2], tiny.config.vocabulary, seed) for seed in range(8)]
    expected = [runtime.run(batch).hidden_TD for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = pool.map(lambda batch: runtime.run(batch).hidden_TD, batches)
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_closing_refuses_what_comes_later(tiny: Bundle) -> None:
    opened = open_torch(tiny)
    opened.warm()
    opened.close()
    opened.close()
    with pytest.raises(CancelledError, match="closed"):
        opened.run(batch_of([4], tiny.config.vocabulary))


def test_closing_cancels_between_layers(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer waits until `close` has been called; the second must not be computed."""
    opened = open_torch(tiny)
    entered, layers = threading.Event(), []

    def wait_in_the_layer(hidden: torch.Tensor, *_: object) -> torch.Tensor:
        layers.append(hidden)
        entered.set()
        assert opened._closed.wait(5)
        return hidden

    monkeypatch.setattr(torch_encoder, "_layer", wait_in_the_layer)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(opened.run, batch_of([4], tiny.config.vocabulary))
        assert entered.wait(5)
        opened.close()
        with pytest.raises(CancelledError):
            running.result(5)
    assert len(layers) == 1 < tiny.config.layers


def test_it_says_what_it_is(tiny: Bundle, runtime: TorchRuntime) -> None:
    assert runtime.name == "torch fp32 cpu grouped attention"
    assert runtime.config == tiny.config
    assert runtime.max_batch_tokens == 4096


def test_a_classifier_end_to_end(tmp_path: Path) -> None:
    directory = tiny_model(tmp_path, "classify")
    texts = ["where is my parcel", "refund the money", "привет мир"]
    with (
        load(directory, runtime="torch", precision="fp32") as ours,
        load(directory, runtime="reference", precision="fp32") as reference,
    ):
        got, expected = ours.classify(texts), reference.classify(texts)
    for one, other in zip(got, expected, strict=True):
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.accounting == other.accounting


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_gpu_benchmark_says_when_there_is_no_gpu() -> None:
    path = REPOSITORY / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit, match="no CUDA device"):
        module.main([])


@needs_cuda
def test_cuda_agrees_with_the_reference(tiny: Bundle) -> None:
    batch = batch_of(LENGTHS, tiny.config.vocabulary)
    expected = ReferenceRuntime.open(tiny).run(batch).hidden_TD
    exact = open_torch(tiny, device="cuda")
    assert exact.name == "torch fp32 cuda grouped attention"
    np.testing.assert_allclose(exact.run(batch).hidden_TD, expected, atol=1e-4, rtol=0)
    rounded = open_torch(tiny, "bf16", device="cuda")
    assert cosines(rounded.run(batch).hidden_TD, expected).min() > 0.9995


@needs_cuda
@pytest.mark.parametrize("rows", ["all", "first"])
def test_graphs_answer_as_launches_do(tiny: Bundle, rows: Rows) -> None:
    """Shapes in turn and again, so that a replay after another shape's is among them."""
    graphs, launches = (open_torch(tiny, "bf16", device="cuda") for _ in range(2))
    assert "variable-length" in graphs.name
    assert graphs._graphs is not None
    launches._graphs = None
    graphs.warm()
    for seed, lengths in enumerate([LENGTHS, [16], [200], [1] * 30, LENGTHS, [15], [201]]):
        batch = batch_of(lengths, tiny.config.vocabulary, seed)
        assert graphs._graphs.run(batch, rows == "first") is not None
        got = graphs.run(batch, rows=rows).hidden_TD
        assert cosines(got, launches.run(batch, rows=rows).hidden_TD).min() > 0.9995
    large = batch_of([500] * 5, tiny.config.vocabulary)
    assert graphs._graphs.run(large, False) is None
    assert graphs.run(large).hidden_TD.shape == (2500, tiny.config.hidden)
