"""How a model makes sentence vectors, read from sentence-transformers' files.

`modules.json` names the steps, `1_Pooling/config.json` the pooling,
`config_sentence_transformers.json` the prompts, `sentence_bert_config.json` the longest text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlmr.errors import ModelRefusedError
from xlmr.model.config import EncoderConfig
from xlmr.model.jsonfiles import read_json, read_object, read_optional_object
from xlmr.model.pooling import Pooling, PoolingKind

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
LIMITS = "sentence_bert_config.json"

_KINDS: Mapping[str, PoolingKind] = {"mean": "mean", "cls": "cls"}
_FLAGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def read_pooling(directory: Path) -> Pooling:
    """The pooling; the mean at length 1 where the directory does not say.

    Raises:
        ModelRefusedError: a step or pooling that is none of ours.
    """
    kind: PoolingKind = "mean"
    normalize = False
    modules = _modules(directory)
    if modules is None:
        return Pooling()
    for i, module in enumerate(modules):
        match str(module.get("type")).rpartition(".")[2]:
            case "Transformer":
                pass
            case "Pooling":
                kind = _pooling_kind(directory / _folder(module, i) / "config.json")
            case "Normalize":
                normalize = True
            case other:
                raise ModelRefusedError(
                    f"expected Transformer, Pooling or Normalize, got {other!r}",
                    field=f"{MODULES} [{i}].type",
                )
    return Pooling(kind=kind, normalize=normalize)


def read_prompts(directory: Path) -> tuple[Mapping[str, str], str | None]:
    """The prompts by name, and the name of the default one.

    Raises:
        ModelRefusedError: not names with texts, or a default that is not among them.
    """
    config = read_optional_object(directory / PROMPTS) or {}
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise ModelRefusedError("expected names with texts", field=f"{PROMPTS} prompts")
    if default is not None and default not in prompts:
        raise ModelRefusedError(
            f"expected one of the prompts, got {default!r}",
            field=f"{PROMPTS} default_prompt_name",
        )
    return prompts, default


def read_max_tokens(directory: Path, config: EncoderConfig) -> int:
    """Tokens the model reads: what its positions hold, or a lower `max_seq_length`.

    Raises:
        ModelRefusedError: not a whole number, or no room for a token between `<s>` and `</s>`.
    """
    limit = (read_optional_object(directory / LIMITS) or {}).get("max_seq_length")
    if limit is None:
        return config.max_tokens
    if not isinstance(limit, int) or limit < 3:
        raise ModelRefusedError(
            f"expected a whole number of at least 3, got {limit!r}",
            field=f"{LIMITS} max_seq_length",
        )
    return min(limit, config.max_tokens)


def sentence_files(directory: Path) -> list[str]:
    """The files read above that exist, relative to the directory."""
    names = [MODULES, PROMPTS, LIMITS]
    for i, module in enumerate(_modules(directory) or []):
        if str(module.get("type")).endswith("Pooling"):
            names.append(f"{_folder(module, i)}/config.json")
    return [name for name in names if (directory / name).exists()]


def _modules(directory: Path) -> list[dict[str, Any]] | None:
    if not (directory / MODULES).exists():
        return None
    modules = read_json(directory / MODULES)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise ModelRefusedError("expected a list of modules", field=MODULES)
    return modules


def _folder(module: Mapping[str, Any], i: int) -> str:
    folder = module.get("path")
    if not isinstance(folder, str) or not re.fullmatch(r"[\w-]+", folder):
        raise ModelRefusedError("expected the name of a folder", field=f"{MODULES} [{i}].path")
    return folder


def _pooling_kind(path: Path) -> PoolingKind:
    config = read_object(path)
    name = f"{path.parent.name}/{path.name}"
    if config.get("include_prompt", True) is not True:
        raise ModelRefusedError("expected true", field=f"{name} include_prompt")
    # Newer releases write one name, older ones a flag for each kind.
    chosen = (
        [config["pooling_mode"]]
        if "pooling_mode" in config
        else [
            _FLAGS.get(flag, flag)
            for flag, on in config.items()
            if flag.startswith("pooling_mode_") and on is True
        ]
    )
    if len(chosen) != 1 or chosen[0] not in _KINDS:
        raise ModelRefusedError(
            f"expected mean or cls, got {', '.join(map(str, chosen)) or 'none'}",
            field=f"{name} pooling_mode",
        )
    return _KINDS[chosen[0]]
