"""A run as a value: named, complete and frozen. A TOML file says it, or the command line, or both.

    task = "classify"
    encoder = "models/starter"
    data.train = "data"

`read_recipe` and `set_values` make a `Recipe`; `Recipe.to_toml` writes it with every default said,
and reading that again gives the same recipe. Paths are as written: relative ones are relative to
where the command runs.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from xlmr.errors import MissingExtraError, SettingsError

Task = Literal[
    "classify", "multi-label", "score", "infer", "tag", "answer", "embed", "rerank", "fill"
]
EmbeddingRows = Literal["none", "seen", "all"]
Method = Literal["head", "full", "lora"]

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Above0 = Annotated[float, Meta(gt=0.0)]
AtLeast0 = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learned from.

    Attributes:
        train: a file, or a folder of `<language>.train.jsonl`.
        dev: likewise, to choose and calibrate on; empty: the folder's own dev files of the
            training languages.
        calibrate: likewise, to calibrate on alone, in every language it has: a model that learns
            from English still learns how sure it may be in others; empty: the dev rows.
        train_split: which files of a folder are learned from.
        dev_split: which files of a folder are chosen on.
        languages: learn from these only; all where empty.
        columns: our name of a column → the file's, where they differ.
        rows: what a row is, where a task can learn from several kinds; empty: the task's own.
        near_duplicates: of training rows that nearly repeat a dev row: drop, stop, keep.
        unknown_labels: what held-out rows with a label that no training row has do: stop the run,
            or drop out of it, counted.
        balance: how often languages are drawn: 1 as often as they have rows, 0 all the same, and
            between: in proportion to rows ** balance.
        class_weights: `balanced` makes every class count the same in the loss.
    """

    train: str
    dev: str = ""
    calibrate: str = ""
    train_split: str = "train"
    dev_split: str = "dev"
    languages: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    rows: str = ""
    near_duplicates: Literal["drop", "stop", "keep"] = "drop"
    unknown_labels: Literal["stop", "drop"] = "stop"
    balance: Share = 1.0
    class_weights: Literal["none", "balanced"] = "none"


class Run(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long, in what pieces, and when to stop.

    Attributes:
        epochs: passes over the training rows.
        batch_tokens: longest row × rows of a batch, at most.
        accumulate: batches whose gradients make one step.
        max_tokens: longer rows are cut, or read in windows where the task can.
        precision: `auto` is bf16 where the device computes in it.
        patience: epochs without a better dev score before the run stops; 0: never.
        checkpoint_s: seconds between checkpoints, besides the one after each epoch.
    """

    epochs: Positive = 4
    batch_tokens: Positive = 1024
    accumulate: Positive = 1
    max_tokens: Annotated[int, Meta(ge=8)] = 256
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    patience: Count = 0
    checkpoint_s: Above0 = 300.0


class Optimizer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """AdamW and what goes around it.

    Attributes:
        learning_rate: the peak, of the head and the uppermost layer.
        layer_decay: each layer below learns this much slower than the one above it.
        warmup: share of the run over which the rate rises; then it falls to 0 in a straight line.
        weight_decay: on matrices only.
        clip: largest norm of the gradient.
        train_embeddings: which word embeddings learn: `none`; `seen`, those of the run's own
            rows, at next to no cost; or `all` of them, which for a matrix of 250,000 rows costs
            more than the rest of a small model together. Where the matrix also guesses words, in
            `fill`, `seen` is `none`.
        head: where a new head for labels starts: `fitted` to what the frozen encoder says of the
            training rows, or `random`.
    """

    learning_rate: Above0 = 5e-5
    layer_decay: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    warmup: Share = 0.1
    weight_decay: AtLeast0 = 0.01
    clip: Above0 = 1.0
    train_embeddings: EmbeddingRows = "seen"
    head: Literal["fitted", "random"] = "fitted"


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank updates, for `method = "lora"`; merged into the weights at the end.

    Attributes:
        rank: of each update.
        alpha: an update counts alpha / rank.
        dropout: on what an update reads.
        modules: the linear layers that get one, by the end of their name.
    """

    rank: Positive = 16
    alpha: Above0 = 32.0
    dropout: Share = 0.05
    modules: tuple[str, ...] = ("query", "key", "value", "dense")


class Embed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For `task = "embed"`.

    Attributes:
        loss: `contrast`: the right text among all of the batch; `imitate`: the teacher's vector of
            the English side, for both sides of a bitext.
        temperature: cosines are divided by it.
        hard_negatives: mined for each row with the model's own vectors before the first epoch.
        teacher: model directory, for `imitate`; empty: the encoder as it was.
    """

    loss: Literal["contrast", "imitate"] = "contrast"
    temperature: Above0 = 0.05
    hard_negatives: Count = 0
    teacher: str = ""


class Rerank(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For `task = "rerank"`.

    Attributes:
        negatives: documents that each positive is held against; those missing in the data are
            mined with the encoder's own vectors.
    """

    negatives: Positive = 4


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For `task = "answer"`.

    Attributes:
        stride: tokens that two windows of a long context share.
        max_answer_tokens: longest answer that is given when dev rows are scored.
    """

    stride: Count = 64
    max_answer_tokens: Positive = 30


class Fill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For `task = "fill"`: masked language modelling.

    Attributes:
        masked: share of words that are hidden, whole.
    """

    masked: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.15


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model learns about itself from held-out rows.

    Attributes:
        rows: of each language, at most.
        risk: the share of given answers that may be wrong, for abstention; 0: none is fitted.
        threshold: what the thresholds of a multi-label model are for.
        threshold_value: the precision or recall they keep; nothing to `f1`.
    """

    rows: Positive = 1000
    risk: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.1
    threshold: Literal["f1", "precision", "recall"] = "f1"
    threshold_value: Share = 0.0


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run depends on, its data files and library versions excepted.

    Attributes:
        task: what the model learns to do.
        encoder: model directory to start from.
        name: of the run, for people.
        method: `full` teaches encoder and head; `lora` low-rank updates and the head; `head` fits
            a classifier on frozen sentence vectors in seconds, without torch.
        seed: decides the head's first weights, the order of rows and the dropout.
    """

    task: Task
    encoder: str
    data: Data
    name: str = ""
    method: Method = "full"
    seed: Count = 0
    run: Run = Run()
    optimizer: Optimizer = Optimizer()
    lora: Lora = Lora()
    embed: Embed = Embed()
    rerank: Rerank = Rerank()
    answer: Answer = Answer()
    fill: Fill = Fill()
    evidence: Evidence = Evidence()

    def to_json(self) -> dict[str, Any]:
        """Plain values, every default said."""
        plain: dict[str, Any] = json.loads(msgspec.json.encode(self))
        return plain

    def to_toml(self) -> str:
        """The recipe as a file.

        Raises:
            MissingExtraError: tomli-w is not installed.
        """
        try:
            import tomli_w
        except ModuleNotFoundError:
            raise MissingExtraError("tomli-w", extra="train") from None
        return tomli_w.dumps(self.to_json())

    @property
    def digest(self) -> str:
        """SHA-256, hex: the same recipe has the same one."""
        plain = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()


def read_recipe(path: Path) -> dict[str, Any]:
    """The values of a TOML file, not yet checked.

    Raises:
        SettingsError: no such file, not UTF-8, or not TOML; names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise SettingsError(f"{path}: no such recipe") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"{path}: not TOML: {fault}") from None


def set_values(values: Mapping[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """Values with `key=value` pairs put over them: `run.epochs=3`, `data.languages=["en"]`.

    A value is read as TOML; what is no TOML is a text.

    Raises:
        SettingsError: a pair without `=`, or a key inside something that has no keys.
    """
    result = _copied(values)
    for pair in said:
        key, found, value = pair.partition("=")
        if not found or not key.strip():
            raise SettingsError(f"--set {pair}: expected key=value", hint="--set run.epochs=3")
        *above, last = key.strip().split(".")
        place = result
        for name in above:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise SettingsError(f"--set {pair}: {name} holds a value, not keys")
        place[last] = _toml_value(value.strip())
    return result


def make_recipe(values: Mapping[str, Any], *, origin: str = "recipe") -> Recipe:
    """Checks values.

    Raises:
        SettingsError: an unknown key, or a value that cannot be; names the key.
    """
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as fault:
        message = str(fault).replace(" - at `$", " at `").replace("`.", "`")
        raise SettingsError(f"{origin}: {message}", hint=_known(str(fault))) from None
    if recipe.method == "head" and recipe.task != "classify":
        raise SettingsError(
            f"{origin}: method head is for classify, not for {recipe.task}",
            hint='method = "full", or "lora"',
        )
    return recipe


def _known(fault: str) -> str:
    """The keys there are, where one was not known."""
    if "unknown field" not in fault:
        return ""
    place = fault.partition("`$.")[2].rstrip("`")
    section: Any = Recipe
    for name in filter(None, place.split(".")):
        section = next(f.type for f in msgspec.structs.fields(section) if f.name == name)
    return f"there are {', '.join(f.name for f in msgspec.structs.fields(section))}"


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _toml_value(value: str) -> Any:
    try:
        return tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return value
