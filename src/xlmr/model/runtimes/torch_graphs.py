"""Captured CUDA graphs: a small batch is one launch instead of some hundred.

Python and the driver need longer to launch the kernels of a small batch than the GPU needs to
compute them. A graph replays all of them at once, but only for the shape it was captured with. So
batches are rounded up to a bucket of tokens and texts, in a buffer that never moves.

The rounding leaves every answer what it was. Rows behind the last text belong to no text: the
starts of the texts that are missing all point to the end, so no text attends to those rows; all
else works on each row by itself; and those rows are never read. What may differ is rounding in
the last bits, as between any two batch sizes, because the matrix library picks its kernel by the
number of rows.

The layout is tested on the CPU; capture and replay need a GPU to be run at all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from xlmr.model.config import EncoderConfig
from xlmr.model.runtimes.torch_encoder import Row, lay_out, row_of
from xlmr.types import Batch

# Above this a batch keeps the GPU busy for longer than its launches take.
MOST_TOKENS = 2048
# Each costs a capture, a moment as long as a few batches, and some megabytes of launch records.
MOST_GRAPHS = 64

# (row, whether only first rows are wanted) → the last layer
Forward = Callable[[Row, bool], torch.Tensor]
# Tokens, texts, longest text, only first rows.
Shape = tuple[int, int, int, bool]


def bucket(count: int, least: int) -> int:
    """Rounds up to eighths of the next power of two: by less than a quarter, or to `least`."""
    step = max(least, (1 << (count - 1).bit_length()) // 8)
    return -(-count // step) * step


def shape_of(batch: Batch, first: bool, config: EncoderConfig) -> Shape:
    """The shape of the graph that can hold a batch of at least one text."""
    lengths = batch.starts[1:] - batch.starts[:-1]
    # The attention kernel works in blocks of 128 queries: finer bounds would save nothing.
    longest = max(128, 1 << (int(lengths.max()) - 1).bit_length())
    texts = 1 << (len(lengths) - 1).bit_length()
    return bucket(len(batch.ids_T), 16), texts, min(longest, config.max_tokens), first


class Graphs:
    """Graphs captured when their shape is first asked for. One caller at a time.

    The first `MOST_GRAPHS` shapes are kept; others run without a graph, which is slower and never
    stalls an answer by capturing over and over. All share one memory pool and one pair of buffers,
    so memory is that of the largest.
    """

    def __init__(
        self, forward: Forward, config: EncoderConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._forward = forward
        self._config = config
        self._inputs = torch.zeros(4 * MOST_TOKENS + 2, dtype=torch.int32, device=device)
        self._outputs = torch.zeros(MOST_TOKENS, config.hidden, dtype=dtype, device=device)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[Shape, torch.cuda.CUDAGraph] = {}
        self._usable = True

    def run(self, batch: Batch, first: bool) -> torch.Tensor | None:
        """The last layer of a batch, to be read before the next call; None where no graph fits."""
        if not self._usable or len(batch.ids_T) > MOST_TOKENS:
            return None
        shape = shape_of(batch, first, self._config)
        if shape not in self._graphs and len(self._graphs) >= MOST_GRAPHS:
            return None
        tokens, texts, _, _ = shape
        laid = torch.from_numpy(lay_out(batch, self._config.pad_id, tokens, texts))
        self._inputs[: len(laid)].copy_(laid)
        if shape not in self._graphs:
            try:
                self._graphs[shape] = self._capture(shape)
            except RuntimeError:  # how torch says that a kernel or the driver cannot be captured
                self._usable = False
                return None
        self._graphs[shape].replay()
        return self._outputs[: len(batch.starts) - 1 if first else len(batch.ids_T)]

    def _capture(self, shape: Shape) -> torch.cuda.CUDAGraph:
        tokens, texts, longest, first = shape
        laid = self._inputs[: 2 * tokens + 2 * (texts + 1)]
        row = row_of(laid, tokens, texts, longest)
        # Libraries allocate when a kernel is first used; that must happen outside the capture.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forward(row, first)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Only this thread's work is captured: others may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            hidden = self._forward(row, first)
            self._outputs[: len(hidden)].copy_(hidden)
        return graph
