"""The forward pass in torch over a flat row of tokens: nothing is padded on the way.

Everything but attention works on each row by itself; attention follows the texts' starts. On CUDA
in half precision it is one variable-length kernel; elsewhere texts of equal length are attended
together, which needs no mask either.

Shapes: T tokens, B texts, G texts of one length, L tokens of one text, D hidden width, A heads,
H width of one head, Q rows that ask (T, or B where only first rows are wanted).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from xlmr.model.config import EncoderConfig
from xlmr.types import Batch

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None

Tensors = Mapping[str, torch.Tensor]
Groups = tuple[tuple[torch.Tensor, torch.Tensor], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A batch on the device. Behind its texts a captured graph may have rows of no text.

    Attributes:
        ids_T: int32 token ids.
        positions_T: int32 rows of the position table.
        starts_B: int32 [B + 1] where texts start among the tokens; empty texts may follow.
        firsts_B: int32 [B + 1] where texts start when each has only its first row.
        longest: no text has more tokens.
        groups: texts of equal length: their places [G] and their tokens [G, L]; empty where the
            variable-length kernel attends.
    """

    ids_T: torch.Tensor
    positions_T: torch.Tensor
    starts_B: torch.Tensor
    firsts_B: torch.Tensor
    longest: int
    groups: Groups = ()


# (query [Q, A, H], key [T, A, H], value [T, A, H], row, whether only first rows ask) → [Q, A, H]
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Row, bool], torch.Tensor]


def lay_out(batch: Batch, pad_id: int, tokens: int, texts: int) -> NDArray[np.int32]:
    """Ids, positions, starts and first starts, one after the other, for one copy to the device.

    Args:
        batch: not more than `tokens` tokens in not more than `texts` texts.
        pad_id: positions start at the row after it.
        tokens: rows to lay out; those behind the batch belong to no text.
        texts: texts to lay out; those behind the batch are empty.
    """
    starts, used = batch.starts, len(batch.ids_T)
    laid = np.zeros(2 * tokens + 2 * (texts + 1), np.int32)
    ids_T, positions_T, starts_B, firsts_B = np.split(laid, np.cumsum([tokens, tokens, texts + 1]))
    ids_T[:used] = batch.ids_T
    positions_T[:] = pad_id + 1
    positions_T[:used] += np.arange(used, dtype=np.int32) - np.repeat(starts[:-1], np.diff(starts))
    starts_B[:] = used
    starts_B[: len(starts)] = starts
    firsts_B[:] = np.minimum(np.arange(texts + 1), len(starts) - 1)
    return laid


def row_of(laid: torch.Tensor, tokens: int, texts: int, longest: int, groups: Groups = ()) -> Row:
    """Views of what `lay_out` laid out."""
    ids_T, positions_T, starts_B, firsts_B = laid.split([tokens, tokens, texts + 1, texts + 1])
    return Row(ids_T, positions_T, starts_B, firsts_B, longest, groups)


def groups_of(starts: NDArray[np.int32], device: torch.device) -> Groups:
    """Texts of equal length, for `attend_in_groups`."""
    lengths = np.diff(starts)
    groups = []
    for length in np.unique(lengths):
        texts_G = np.flatnonzero(lengths == length)
        tokens_GL = starts[texts_G, None].astype(np.int64) + np.arange(length)
        groups.append((torch.tensor(texts_G, device=device), torch.tensor(tokens_GL).to(device)))
    return tuple(groups)


def attend_in_one(
    query_QAH: torch.Tensor, key_TAH: torch.Tensor, value_TAH: torch.Tensor, row: Row, first: bool
) -> torch.Tensor:
    """All texts in one variable-length kernel.

    It reads keys only within a text's starts; rows of no text come back undefined.
    """
    starts_Q, longest = (row.firsts_B, 1) if first else (row.starts_B, row.longest)
    return varlen_attn(query_QAH, key_TAH, value_TAH, starts_Q, row.starts_B, longest, row.longest)


def attend_in_groups(
    query_QAH: torch.Tensor, key_TAH: torch.Tensor, value_TAH: torch.Tensor, row: Row, first: bool
) -> torch.Tensor:
    """Texts of equal length together."""
    mixed_QAH = torch.empty_like(query_QAH)
    for texts_G, tokens_GL in row.groups:
        asking = texts_G[:, None] if first else tokens_GL
        mixed_GALH = functional.scaled_dot_product_attention(
            query_QAH[asking].transpose(1, 2),
            key_TAH[tokens_GL].transpose(1, 2),
            value_TAH[tokens_GL].transpose(1, 2),
        )
        mixed_QAH[asking] = mixed_GALH.transpose(1, 2)
    return mixed_QAH


def kernel_works(device: torch.device, dtype: torch.dtype, config: EncoderConfig) -> bool:
    """Whether the variable-length kernel is there and right for this device, width and precision.

    Asked by trying: which devices and widths it takes differs between releases of torch.
    """
    if varlen_attn is None or device.type != "cuda" or dtype == torch.float32:
        return False
    starts = np.array([0, 3, 40], np.int32)
    batch = Batch(ids_T=np.zeros(40, np.int32), starts=starts)
    # One empty text and ten rows of no text, as in a captured graph.
    laid = torch.tensor(lay_out(batch, 0, 50, 3), device=device)
    row = row_of(laid, 50, 3, longest=64, groups=groups_of(starts, device))
    generator = torch.Generator(device).manual_seed(0)
    shape = (3, 50, config.heads, config.head_width)
    drawn = torch.randn(shape, generator=generator, device=device).to(dtype)
    try:
        for first, asked in ((False, 40), (True, 2)):
            query = drawn[0, :3] if first else drawn[0]
            got = attend_in_one(query, drawn[1], drawn[2], row, first)[:asked].float()
            wanted = attend_in_groups(query, drawn[1], drawn[2], row, first)[:asked].float()
            if not torch.allclose(got, wanted, atol=0.05, rtol=0.0):
                return False
    except (RuntimeError, ValueError, TypeError):  # how torch refuses a kernel
        return False
    return True


def load(
    arrays: Mapping[str, Any], config: EncoderConfig, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Weights on the device, under our names, as the forward pass wants them.

    Query, key and value become one matrix, `layers.{i}.asked`, and the one type vector is added to
    every position: fewer and larger operations for the same sums.
    """
    tensors: dict[str, torch.Tensor] = {}
    folded = {"embeddings.type", "embeddings.position"}

    def put(name: str, array: NDArray[np.float32]) -> None:
        tensors[name] = torch.tensor(array, dtype=dtype, device=device)

    put("embeddings.position", arrays["embeddings.position"] + arrays["embeddings.type"])
    for i in range(config.layers):
        for part in ("weight", "bias"):
            names = [f"layers.{i}.{owner}.{part}" for owner in ("query", "key", "value")]
            put(f"layers.{i}.asked.{part}", np.concatenate([arrays[name] for name in names]))
            folded.update(names)
    for name in arrays:
        if name not in folded:
            put(name, arrays[name])
    return tensors


def forward(
    row: Row,
    weights: Tensors,
    config: EncoderConfig,
    attend: Attend,
    *,
    first: bool,
    between_layers: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """The last layer, [T, D], or [B, D] where only first rows are wanted, in the weights' format.

    Args:
        row: the batch.
        weights: as `load` gives them.
        config: the architecture.
        attend: `attend_in_one` or `attend_in_groups`.
        first: whether the last layer computes each text's first row only.
        between_layers: called before each layer; may raise to cancel.
    """
    hidden = functional.embedding(row.ids_T, weights["embeddings.word"])
    hidden = hidden + functional.embedding(row.positions_T, weights["embeddings.position"])
    if not config.pre_norm:
        hidden = _norm(hidden, weights, "embeddings.norm", config)
    for i in range(config.layers):
        between_layers()
        only_first = first and i == config.layers - 1
        hidden = _layer(hidden, row, weights, f"layers.{i}.", config, attend, only_first)
    return _norm(hidden, weights, "final_norm", config) if config.pre_norm else hidden


def _layer(
    hidden: torch.Tensor,
    row: Row,
    weights: Tensors,
    layer: str,
    config: EncoderConfig,
    attend: Attend,
    first: bool,
) -> torch.Tensor:
    """One layer, with its norms before (XLM-R XL) or after (XLM-R) each block."""
    seen = _norm(hidden, weights, layer + "attention_norm", config) if config.pre_norm else hidden
    mixed = _attention(seen, row, weights, layer, config, attend, first)
    if first:
        hidden = hidden[_first_rows(row)]
    hidden = hidden + mixed
    if config.pre_norm:
        seen = _norm(hidden, weights, layer + "output_norm", config)
        return hidden + _feed_forward(seen, weights, layer)
    hidden = _norm(hidden, weights, layer + "attention_norm", config)
    hidden = hidden + _feed_forward(hidden, weights, layer)
    return _norm(hidden, weights, layer + "output_norm", config)


def _attention(
    seen: torch.Tensor,
    row: Row,
    weights: Tensors,
    layer: str,
    config: EncoderConfig,
    attend: Attend,
    first: bool,
) -> torch.Tensor:
    """Every asking row looks at every token of its text, [Q, D]."""
    heads = (config.heads, config.head_width)
    weight, bias = weights[layer + "asked.weight"], weights[layer + "asked.bias"]
    if first:
        width = config.hidden
        query = functional.linear(seen[_first_rows(row)], weight[:width], bias[:width])
        key, value = functional.linear(seen, weight[width:], bias[width:]).chunk(2, dim=-1)
    else:
        query, key, value = functional.linear(seen, weight, bias).chunk(3, dim=-1)
    query, key, value = (rows.unflatten(-1, heads) for rows in (query, key, value))
    return _linear(attend(query, key, value, row, first).flatten(1), weights, layer + "output")


def _first_rows(row: Row) -> torch.Tensor:
    """Each text's first token, [B]. The empty texts of a graph may start behind the last token."""
    return row.starts_B[:-1].clamp(max=row.ids_T.shape[0] - 1)


def _feed_forward(rows: torch.Tensor, weights: Tensors, layer: str) -> torch.Tensor:
    # torch's GELU is the exact one, by erf, unless its tanh form is asked for.
    return _linear(functional.gelu(_linear(rows, weights, layer + "up")), weights, layer + "down")


def _linear(rows: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    return functional.linear(rows, weights[name + ".weight"], weights[name + ".bias"])


def _norm(rows: torch.Tensor, weights: Tensors, name: str, config: EncoderConfig) -> torch.Tensor:
    weight, bias = weights[name + ".weight"], weights[name + ".bias"]
    return functional.layer_norm(rows, weight.shape, weight, bias, config.norm_epsilon)
