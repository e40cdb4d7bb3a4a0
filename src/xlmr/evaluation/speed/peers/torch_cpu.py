"""PyTorch with transformers' XLMRobertaModel and its fused attention: float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xlmr.errors import ModelRefusedError
from xlmr.evaluation.speed.contestant import Array, pad, unpad
from xlmr.evaluation.speed.peers.vendor import vendor
from xlmr.evaluation.speed.subject import Subject
from xlmr.model.weights import name_table
from xlmr.types import Batch


class TorchCpu:
    """One network, in evaluation mode."""

    def __init__(self, network: Any, name: str, *, threads: int, pad_id: int) -> None:
        self.name = name
        self.version = vendor("torch").__version__
        self._network = network
        self._threads = threads
        self._pad_id = pad_id

    def prepare(self, batch: Batch) -> Callable[[], Any]:
        """See `Contestant.prepare`: pads."""
        torch = vendor("torch")
        # For the whole process; every contestant of a run has the same count.
        torch.set_num_threads(self._threads)
        ids_BL, mask_BL = (torch.from_numpy(array) for array in pad(batch, self._pad_id))
        network = self._network

        def compute() -> Any:
            with torch.inference_mode():
                return network(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state

        return compute

    def texts(self, output: Any, batch: Batch) -> list[Array]:
        """See `Contestant.texts`."""
        return unpad(output.float().numpy(), batch)

    def close(self) -> None:
        """See `Contestant.close`."""
        self._network = None


def open_contestant(subject: Subject, scratch: Path, *, precision: str, threads: int) -> TorchCpu:
    """Opens the subject in `fp32` or `bf16`; needs no scratch.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelRefusedError: a pre-norm model.
    """
    torch = vendor("torch")
    network = build_network(subject)
    if precision == "bf16":
        network = network.to(torch.bfloat16)
    return TorchCpu(network, f"torch {precision}", threads=threads, pad_id=subject.config.pad_id)


def build_network(subject: Subject) -> Any:
    """transformers' XLMRobertaModel with the subject's weights, float32.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelRefusedError: a pre-norm model.
    """
    torch, transformers = vendor("torch"), vendor("transformers")
    config = subject.config
    if config.pre_norm:
        raise ModelRefusedError("the peers compute post-norm models only", field="model_type")
    shape = transformers.XLMRobertaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate,
        max_position_embeddings=config.position_rows,
        type_vocab_size=1,
        layer_norm_eps=config.norm_epsilon,
        pad_token_id=config.pad_id,
        bos_token_id=0,
        eos_token_id=2,
        attn_implementation="sdpa",
    )
    network = transformers.XLMRobertaModel(shape, add_pooling_layer=False).eval()
    arrays = {
        theirs: torch.from_numpy(np.array(subject.read(ours), np.float32))
        for ours, theirs in name_table(config).items()
    }
    missing, unexpected = network.load_state_dict(arrays, strict=False)
    if unexpected or any(not name.endswith("_ids") for name in missing):
        raise ModelRefusedError(
            f"this transformers names weights otherwise: {[*missing, *unexpected][:3]}",
            field="state_dict",
        )
    return network
