"""A model directory, opened: architecture, tokenizer, pooling, prompts, heads and its digest.

The directory is a valid Hugging Face one, with sentence-transformers' files where it has them;
`xlmr.json` and the file it names are the only additions. Nothing in it is ever executed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from xlmr.errors import ModelNotFoundError, ModelRefusedError
from xlmr.model.calibration import CALIBRATION_FILE, Calibration, read_calibration
from xlmr.model.config import EncoderConfig, parse_config
from xlmr.model.digests import Digests
from xlmr.model.heads.labels import parse_labels
from xlmr.model.heads.zero_shot import find_outcomes
from xlmr.model.jsonfiles import read_object, read_optional_object
from xlmr.model.pooling import Pooling
from xlmr.model.sentences import (
    MODULES,
    read_max_tokens,
    read_pooling,
    read_prompts,
    sentence_files,
)
from xlmr.model.weights import Weights, weight_files
from xlmr.text.tokenizer import Tokenizer

# What a head is for, by the class name Hugging Face writes into config.json.
_TASKS_OF_ARCHITECTURE: Mapping[str, frozenset[str]] = {
    "Model": frozenset({"embed"}),
    "ForMaskedLM": frozenset({"embed", "fill"}),
    "ForSequenceClassification": frozenset({"classify"}),
    "ForTokenClassification": frozenset({"tag"}),
    "ForQuestionAnswering": frozenset({"answer"}),
}
# Parts of `xlmr.json` that tell how the model came to be; no answer depends on them.
_DESCRIBING_FIELDS = ("lineage", "report")


class EncoderFiles(Protocol):
    """What a runtime reads of a model directory."""

    @property
    def directory(self) -> Path:
        """Where it lies."""

    @property
    def config(self) -> EncoderConfig:
        """The encoder's architecture."""

    @property
    def max_tokens(self) -> int:
        """Longest text, special tokens included."""

    @property
    def encoder_digest(self) -> str:
        """SHA-256, hex, over the architecture and the weight files."""

    def weights(self) -> Weights:
        """Opens the weight files."""


@dataclass(frozen=True)
class BareEncoder:
    """A model directory's encoder alone: enough for a process that only computes vectors.

    Attributes:
        directory: where it lies.
        config: the encoder's architecture.
        max_tokens: longest text, special tokens included.
        cache_dir: where file digests are remembered; None remembers nothing.
    """

    directory: Path
    config: EncoderConfig
    max_tokens: int
    cache_dir: Path | None = None

    def weights(self) -> Weights:
        """As `Bundle.weights`."""
        return Weights(self.directory, self.config)

    @cached_property
    def encoder_digest(self) -> str:
        """As `Bundle.encoder_digest`."""
        return _encoder_digest(self.directory, self.config, self.cache_dir)


@dataclass(frozen=True)
class Bundle:
    """A model directory as frozen values; weights are read when asked for.

    Attributes:
        directory: where it lies.
        config: the encoder's architecture.
        raw_config: `config.json` as parsed.
        tokenizer: text to ids; truncates at `max_tokens`.
        pooling: how token vectors become the sentence vector.
        prompts: name → text put before the user's.
        default_prompt: name of the prompt used where none is asked for.
        extras: `xlmr.json` as parsed; empty where there is none.
        max_tokens: longest text, special tokens included.
        tasks: what the model can be asked: embed, classify, tag, answer, rerank, zero_shot, fill.
        cache_dir: where file digests are remembered; None remembers nothing.
        calibration: `calibration.json`; None where there is none.
    """

    directory: Path
    config: EncoderConfig
    raw_config: Mapping[str, Any]
    tokenizer: Tokenizer
    pooling: Pooling
    prompts: Mapping[str, str]
    default_prompt: str | None
    extras: Mapping[str, Any]
    max_tokens: int
    tasks: frozenset[str]
    cache_dir: Path | None = None
    calibration: Calibration | None = None

    def weights(self) -> Weights:
        """Opens the weight files.

        Raises:
            WeightsError: missing, truncated or of another model.
            ModelRefusedError: a shape that `config.json` contradicts.
        """
        return Weights(self.directory, self.config)

    @property
    def head(self) -> Mapping[str, Any] | None:
        """The head that `xlmr.json` describes, if any."""
        head = self.extras.get("head")
        return head if isinstance(head, Mapping) else None

    @property
    def labels(self) -> tuple[str, ...]:
        """What the outputs of its classifying or tagging head are called; none without one."""
        if self.head is not None:
            return tuple(self.head.get("labels", ()))
        return parse_labels(self.raw_config) if self.tasks & {"classify", "tag"} else ()

    def prompt(self, name: str | None) -> str:
        """The text of a prompt; of the default prompt for None; empty for the empty name.

        Raises:
            KeyError: no prompt of that name.
        """
        name = self.default_prompt if name is None else name
        return self.prompts[name] if name else ""

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, over names and content of every file that makes answers."""
        names = ["config.json", "tokenizer.json", *sentence_files(self.directory)]
        paths = [self.directory / name for name in names] + weight_files(self.directory)
        if self.head is not None:
            paths.append(head_file(self.directory, self.head))
        if self.calibration is not None:
            paths.append(self.directory / CALIBRATION_FILE)
        content = _digests_of(self.directory, paths, self.cache_dir)
        answering = {k: v for k, v in self.extras.items() if k not in _DESCRIBING_FIELDS}
        return _sha256_of({"files": content, "xlmr.json": answering})

    @cached_property
    def encoder_digest(self) -> str:
        """SHA-256, hex, over the architecture and the weight files.

        Two bundles with the same one may share a runtime.
        """
        return _encoder_digest(self.directory, self.config, self.cache_dir)


def open_bundle(directory: Path, *, cache_dir: Path | None = None) -> Bundle:
    """Opens a model directory.

    Raises:
        ModelNotFoundError: no such directory, or one without `config.json` or `tokenizer.json`.
        ModelRefusedError: a file is not what it should be; names file and field.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"{directory}: no such directory", hint="`xlmr import` makes a model directory"
        )
    raw_config = read_object(directory / "config.json")
    config = parse_config(raw_config)
    tokenizer_path = directory / "tokenizer.json"
    if not tokenizer_path.is_file():
        raise ModelNotFoundError(
            f"{directory}: no tokenizer.json",
            hint="`xlmr import DIR --out OUT` converts sentencepiece.bpe.model",
        )
    max_tokens = read_max_tokens(directory, config)
    tokenizer = Tokenizer.from_file(tokenizer_path, max_tokens=max_tokens)
    if tokenizer.vocabulary_size > config.vocabulary:
        raise ModelRefusedError(
            f"{config.vocabulary} rows for the tokenizer's {tokenizer.vocabulary_size} pieces",
            field="config.json vocab_size",
        )
    prompts, default_prompt = read_prompts(directory)
    extras = _extras(directory)
    return Bundle(
        directory=directory,
        config=config,
        raw_config=raw_config,
        tokenizer=tokenizer,
        pooling=read_pooling(directory),
        prompts=prompts,
        default_prompt=default_prompt,
        extras=extras,
        max_tokens=max_tokens,
        tasks=_tasks(directory, raw_config, extras),
        cache_dir=cache_dir,
        calibration=read_calibration(directory),
    )


def open_encoder(directory: Path, *, cache_dir: Path | None = None) -> BareEncoder:
    """Opens a model directory's encoder, without what reads texts and makes answers.

    Raises:
        ModelNotFoundError: no `config.json` there.
        ModelRefusedError: it is not what it should be; names the field.
    """
    config = parse_config(read_object(directory / "config.json"))
    return BareEncoder(directory, config, read_max_tokens(directory, config), cache_dir)


def head_file(directory: Path, head: Mapping[str, Any]) -> Path:
    """The safetensors file of the head that `xlmr.json` describes.

    Raises:
        ModelRefusedError: not the plain name of a file in the directory.
    """
    name = head.get("file")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name):
        raise ModelRefusedError(
            "expected the name of a .safetensors file in the model directory",
            field="xlmr.json head.file",
        )
    if not (directory / name).is_file():
        raise ModelRefusedError(f"{name} is missing", field="xlmr.json head.file")
    return directory / name


def _tasks(
    directory: Path, raw_config: Mapping[str, Any], extras: Mapping[str, Any]
) -> frozenset[str]:
    tasks = set(_TASKS_OF_ARCHITECTURE[_architecture(raw_config)])
    if "classify" in tasks:
        labels = parse_labels(raw_config)
        tasks |= {"rerank"} if len(labels) == 1 else set()
        tasks |= {"zero_shot"} if find_outcomes(labels) else set()
    if (directory / MODULES).exists():
        tasks.add("embed")
    if extras.get("head"):
        tasks |= {"classify", "embed"}
    return frozenset(tasks)


def _architecture(raw_config: Mapping[str, Any]) -> str:
    """The class name without its family; `Model` where none is given."""
    field = "config.json architectures"
    named = raw_config.get("architectures") or ["XLMRobertaModel"]
    if not isinstance(named, list) or not isinstance(named[0], str):
        raise ModelRefusedError("expected a list of class names", field=field)
    match = re.fullmatch(r"XLMRoberta(?:XL)?(\w+)", named[0])
    if match is None or match[1] not in _TASKS_OF_ARCHITECTURE:
        known = ", ".join(f"XLMRoberta{name}" for name in _TASKS_OF_ARCHITECTURE)
        raise ModelRefusedError(f"expected one of {known}, got {named[0]!r}", field=field)
    return match[1]


def _extras(directory: Path) -> Mapping[str, Any]:
    extras = read_optional_object(directory / "xlmr.json")
    if extras is None:
        return {}
    if extras.get("format") != 1:
        raise ModelRefusedError(
            f"expected 1, got {extras.get('format')!r}",
            field="xlmr.json format",
            hint="a newer xlmr wrote this model; upgrade",
        )
    head = extras.get("head")
    if head is not None and not isinstance(head, dict):
        raise ModelRefusedError("expected an object", field="xlmr.json head")
    return extras


def _encoder_digest(directory: Path, config: EncoderConfig, cache_dir: Path | None) -> str:
    content = _digests_of(directory, weight_files(directory), cache_dir)
    return _sha256_of({"encoder": dataclasses.asdict(config), "files": content})


def _digests_of(directory: Path, paths: Sequence[Path], cache_dir: Path | None) -> dict[str, str]:
    digests = Digests(cache_dir)
    return {str(path.relative_to(directory)): digests.of(path) for path in paths}


def _sha256_of(value: Mapping[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
