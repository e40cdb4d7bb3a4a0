"""Low-rank updates through peft: added in place, merged into the weights before a model is kept."""

from __future__ import annotations

from typing import Any

from xlmr.training.devices import import_extra
from xlmr.training.recipe import Lora


def add_updates(network: Any, options: Lora) -> None:
    """Gives the encoder's linear layers updates that learn in their place; the head learns whole.

    Raises:
        MissingExtraError: peft is not installed.
    """
    peft = import_extra("peft")
    encoder = network.base_model
    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.modules),
    )
    # In place: transformers' class stays what it is, so every objective keeps working.
    peft.inject_adapter_in_model(config, encoder)


def merge_updates(network: Any) -> Any:
    """The same network with its updates added to the weights and removed."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent = network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    return network
