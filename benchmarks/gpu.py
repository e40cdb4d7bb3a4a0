"""XLM-R on a GPU: the torch runtime beside plain transformers, interleaved in one run.

    python benchmarks/gpu.py [--shape base --shape large] [--repeats 30] [--json]

The peer is `transformers` as most people run it: SDPA, the batch padded to its longest text, the
same precision. Both start from token ids in numpy, both end with float32 in numpy, both hold the
same random weights, since speed needs no training; the cosine between their answers says that they
computed the same. Tokens are counted without padding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.model.config import parse_config
from xlmr.model.weights import name_table
from xlmr.types import Batch

SHAPES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "heads": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096, "heads": 16},
}
VOCABULARY = 250_002


def mixed_lengths(texts: int = 32, seed: int = 0) -> list[int]:
    """What online traffic looks like: log-normal, median 24 tokens, 4 to 256."""
    drawn = np.random.default_rng(seed).lognormal(np.log(24), 0.8, texts)
    return [int(length) for length in np.clip(np.rint(drawn), 4, 256)]


def workloads() -> dict[str, list[int]]:
    """Name → token counts of the texts in one batch."""
    return {
        "1x16": [16],
        "1x128": [128],
        "8x32": [32] * 8,
        "32x32": [32] * 32,
        "4x256": [256] * 4,
        "1x512": [512],
        "mixed": mixed_lengths(),
    }


def batch_of(lengths: list[int], seed: int = 0) -> Batch:
    """Random ids, laid end to end."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = np.random.default_rng(seed).integers(5, VOCABULARY - 1, int(starts[-1]))
    return Batch(ids_T=ids.astype(np.int32), starts=starts)


class Peer:
    """Plain transformers on one device."""

    def __init__(self, shape: dict[str, int], precision: str, device: str) -> None:
        import torch
        import transformers

        fields: dict[str, Any] = {**shape, "num_attention_heads": shape["heads"]}
        del fields["heads"]
        self.torch = torch
        self.device = device
        self.config = transformers.XLMRobertaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            attn_implementation="sdpa",
            **fields,
        )
        torch.manual_seed(0)
        with torch.device(device):
            self.model = transformers.XLMRobertaModel(self.config, add_pooling_layer=False).eval()
        self.arrays = self._arrays()
        self.model.to({"bf16": torch.bfloat16, "fp16": torch.float16}[precision])

    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights under our names."""
        state = self.model.state_dict()
        names = name_table(parse_config(self.config.to_dict()))
        return {ours: state[theirs].float().cpu().numpy() for ours, theirs in names.items()}

    def run(self, batch: Batch, first: bool) -> NDArray[np.float32]:
        """Pads, computes, and brings back what was asked for: [B, L, D] or [B, D]."""
        lengths = np.diff(batch.starts)
        seen = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(seen.shape, 1, np.int64)
        ids[seen] = batch.ids_T
        with self.torch.inference_mode():
            hidden = self.model(
                input_ids=self.torch.from_numpy(ids).to(self.device),
                attention_mask=self.torch.from_numpy(seen.astype(np.int64)).to(self.device),
            ).last_hidden_state
            answer: NDArray[np.float32] = (hidden[:, 0] if first else hidden).float().cpu().numpy()
        return answer


def medians(
    runners: dict[str, Callable[[], Any]], repeats: int, warmups: int = 5
) -> dict[str, float]:
    """Median seconds of each, taking turns so that a slow moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(warmups + repeats):
        for name, runner in runners.items():
            begun = time.perf_counter()
            runner()  # ends with a copy to the host, which waits for the GPU
            if turn >= warmups:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def measure(shape: str, precision: str, repeats: int, device: str = "cuda") -> list[dict[str, Any]]:
    """One row for each workload."""
    from xlmr.model.runtimes.torch_runtime import TorchRuntime

    peer = Peer(SHAPES[shape], precision, device)
    config = parse_config(peer.config.to_dict())
    ours = TorchRuntime(peer.arrays, config, precision=precision, device=device)
    print(f"\n{shape}: {ours.name}", file=sys.stderr)
    ours.warm()
    rows = []
    for name, lengths in workloads().items():
        batch = batch_of(lengths)
        seen = np.arange(max(lengths)) < np.array(lengths)[:, None]
        theirs_TD = peer.run(batch, first=False)[seen]
        ours_TD = ours.run(batch).hidden_TD
        norms = np.linalg.norm(theirs_TD, axis=1) * np.linalg.norm(ours_TD, axis=1)
        seconds = medians(
            {
                "transformers": lambda: peer.run(batch, first=False),  # noqa: B023
                "xlmr": lambda: ours.run(batch),  # noqa: B023
                "transformers first": lambda: peer.run(batch, first=True),  # noqa: B023
                "xlmr first": lambda: ours.run(batch, rows="first"),  # noqa: B023
            },
            repeats,
        )
        rows.append(
            {
                "shape": shape,
                "workload": name,
                "tokens": sum(lengths),
                "seconds": seconds,
                "least_cosine": float(((theirs_TD * ours_TD).sum(1) / norms).min()),
            }
        )
    ours.close()
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Milliseconds and ratios, as Markdown."""
    print("| shape | workload | tokens | transformers ms | xlmr ms | ratio ", end="")
    print("| transformers first ms | xlmr first ms | ratio | least cosine |")
    print("|" + "---|" * 10)
    for row in rows:
        cells = [row["shape"], row["workload"], str(row["tokens"])]
        for wanted in ("", " first"):
            theirs, ours = (row["seconds"][who + wanted] for who in ("transformers", "xlmr"))
            cells += [f"{theirs * 1e3:.2f}", f"{ours * 1e3:.2f}", f"{theirs / ours:.2f}"]
        print("| " + " | ".join([*cells, f"{row['least_cosine']:.5f}"]) + " |")


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", action="append", choices=sorted(SHAPES))
    parser.add_argument("--precision", choices=("bf16", "fp16"), default="bf16")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    given = parser.parse_args(arguments)
    try:
        import torch
    except ModuleNotFoundError:
        raise SystemExit("torch is not installed: pip install 'xlmr[train]'") from None
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing to measure here")
    rows = [
        row
        for shape in given.shape or sorted(SHAPES)
        for row in measure(shape, given.precision, given.repeats)
    ]
    if given.json:
        device = torch.cuda.get_device_name()
        print(json.dumps({"device": device, "torch": torch.__version__, "rows": rows}, indent=2))
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {given.precision}\n")
    print_table(rows)


if __name__ == "__main__":
    main()
