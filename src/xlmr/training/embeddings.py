"""Word embeddings while a network learns: none of them, those its rows use, or all.

Of a matrix of 250,000 rows a run touches a few thousand: the others have no gradient, and Adam
leaves such a row where it is. So a run learns a small table of the rows it uses, and they return
to their places before the network is written. What is learned is the same; what it costs is not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from xlmr.training.devices import import_extra
from xlmr.training.recipe import EmbeddingRows


def choose_rows(network: Any, rows: EmbeddingRows, used: Collection[int]) -> None:
    """Lets the word embeddings learn as asked, in place.

    Args:
        network: a transformers network.
        rows: which.
        used: every token id that the network will be shown until `return_rows`.
    """
    embeddings = network.get_input_embeddings()
    # A network that guesses words shows itself others than those of its rows, and where both
    # matrices are one, every row has a gradient.
    if rows == "seen" and network.get_output_embeddings() is None:
        network.set_input_embeddings(_small_table(embeddings, used))
    else:
        embeddings.requires_grad_(rows == "all")


def return_rows(network: Any) -> None:
    """Puts the rows of a small table back into the matrix they came from, if there is one."""
    table = network.get_input_embeddings()
    whole = getattr(table, "whole", None)
    if whole is None:
        return
    torch = import_extra("torch")
    with torch.no_grad():
        whole.weight[table.rows.to(whole.weight.device)] = table.weight.to(whole.weight.device)
    network.set_input_embeddings(whole.to(table.weight.device))


def _small_table(embeddings: Any, used: Collection[int]) -> Any:
    """An embedding of the used rows, read by the ids of the whole matrix."""
    torch = import_extra("torch")
    rows = torch.tensor(sorted(used), dtype=torch.long)
    table = torch.nn.Embedding.from_pretrained(
        embeddings.weight.detach()[rows].clone(), freeze=False
    )
    place = torch.full((embeddings.num_embeddings,), -1, dtype=torch.long)
    place[rows] = torch.arange(len(rows))
    # Plain attributes: neither is a weight of the network, and neither moves or is saved with it.
    object.__setattr__(table, "whole", embeddings)
    object.__setattr__(table, "rows", rows)
    object.__setattr__(table, "place", place)

    def translate(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if module.place.device != given[0].device:
            object.__setattr__(module, "place", module.place.to(given[0].device))
        return (module.place[given[0]], *given[1:])

    table.register_forward_pre_hook(translate)
    return table
