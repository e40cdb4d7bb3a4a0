"""What the outputs of a head are called, from `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlmr.errors import ModelRefusedError

# Without a list of its own, a Hugging Face model has two outputs called LABEL_0 and LABEL_1.
_DEFAULT_COUNT = 2


def parse_labels(raw_config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels in order of the outputs.

    Raises:
        ModelRefusedError: `id2label` does not name outputs 0 to C - 1.
    """
    names = raw_config.get("id2label")
    if names is None:
        count = raw_config.get("num_labels", _DEFAULT_COUNT)
        if not isinstance(count, int) or count < 1:
            raise ModelRefusedError(
                f"expected a count, got {count!r}", field="config.json num_labels"
            )
        return tuple(f"LABEL_{i}" for i in range(count))
    field = "config.json id2label"
    if not isinstance(names, Mapping) or not names:
        raise ModelRefusedError("expected an object from ids to labels", field=field)
    labels = tuple(names.get(str(i)) for i in range(len(names)))
    if not all(isinstance(label, str) for label in labels):
        raise ModelRefusedError(f"expected labels for 0 to {len(names) - 1}", field=field)
    return tuple(str(label) for label in labels)


def is_entailment(label: str) -> bool:
    """Whether a label of an inference model means "follows": `entailment`, `ENTAILMENT`, `Entails`.

    `not_entailment` does not.
    """
    return label.casefold().startswith("entail")


def is_contradiction(label: str) -> bool:
    """Whether a label of an inference model means "cannot be", or just "does not follow"."""
    return label.casefold().startswith(("contradict", "not_entail", "not entail", "non_entail"))
