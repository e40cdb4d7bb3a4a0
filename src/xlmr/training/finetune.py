"""Fine-tuning encoder and head with torch. The run is `fine_tune`, one page; it yields its steps.

Shapes: B rows of a batch, L tokens of its longest row, C classes. The result is a plain Hugging
Face `XLMRobertaForSequenceClassification`. The same data, options, seed, processor and number of
threads give the same bytes.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlmr.errors import MissingExtraError, TrainingError
from xlmr.evaluation.metrics import accuracy
from xlmr.training.checkpoint import (
    TOKENIZER_FILES,
    XLMR_JSON,
    lineage,
    link_files,
    write_json,
    write_model,
)
from xlmr.training.data import Examples
from xlmr.training.schedule import rate_factor, token_batches

if TYPE_CHECKING:
    from xlmr.model.bundle import Bundle
    from xlmr.text.tokenizer import Tokenizer
    from xlmr.types import Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneOptions:
    """How a run goes.

    Attributes:
        seed: decides the head's first weights, the order of rows and the dropout.
        epochs: passes over the training rows.
        learning_rate: the peak.
        batch_tokens: longest row × rows of a batch, at most.
        max_tokens: longer training rows are cut, special tokens included.
        warmup: share of the run over which the learning rate rises.
        weight_decay: AdamW's, on matrices only.
        clip: largest norm of the gradient.
        train_embeddings: whether the word embeddings learn too. A matrix of 250,000 rows costs
            more to update than the rest of the model together, and on a CPU it shows.
    """

    seed: int = 0
    epochs: int = 8
    learning_rate: float = 5e-5
    batch_tokens: int = 256
    max_tokens: int = 256
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    train_embeddings: bool = False


@dataclass(frozen=True, slots=True)
class DevScore:
    """What the dev rows say after an epoch. `macro_accuracy` counts every language the same."""

    epoch: int
    macro_accuracy: float
    accuracy_by_language: dict[str, float]


@dataclass(frozen=True, slots=True)
class Step:
    """One update. `tokens` are real ones, `done` a share of the run; `dev` ends an epoch."""

    number: int
    epoch: int
    loss: float
    tokens: int
    learning_rate: float
    seconds: float
    done: float
    dev: DevScore | None = None


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as the encoder reads them, and how many of them lost tokens."""

    ids: tuple[tuple[int, ...], ...]
    classes: tuple[int, ...]
    languages: tuple[str, ...]
    truncated: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(ids) for ids in self.ids]


def encode_rows(
    examples: Examples, tokenizer: Tokenizer, options: FinetuneOptions
) -> tuple[EncodedRows, EncodedRows]:
    """Train and dev rows as ids, by the tokenizer that will serve the model."""
    limit = min(options.max_tokens, tokenizer.max_tokens)

    def encode(rows: Sequence[Any]) -> EncodedRows:
        encodings: list[Encoding] = tokenizer.encode_many([r.text for r in rows], max_tokens=limit)
        return EncodedRows(
            ids=tuple(encoding.ids for encoding in encodings),
            classes=tuple(examples.classes(rows)),
            languages=tuple(row.language for row in rows),
            truncated=sum(encoding.truncated for encoding in encodings),
        )

    return encode(examples.train), encode(examples.dev)


def load_model(bundle: Bundle, labels: Sequence[str], options: FinetuneOptions) -> Any:
    """The encoder under a new classification head, as transformers' model class.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    torch, transformers = _torch(), _transformers()
    family = "XLMRobertaXL" if bundle.config.pre_norm else "XLMRoberta"
    model_class = getattr(transformers, f"{family}ForSequenceClassification")
    # Here already: torch's threads inherit the mode of the one that starts them.
    with _denormals_flushed(torch), _seeded(torch, options.seed):
        model = model_class.from_pretrained(
            bundle.directory,
            local_files_only=True,
            dtype=torch.float32,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type="single_label_classification",
        )
    if not options.train_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    return model


def fine_tune(
    model: Any, train: EncodedRows, dev: EncodedRows, options: FinetuneOptions
) -> Iterator[Step]:
    """Trains in place; the caller shows, saves and stops. The last step of an epoch carries `dev`.

    Raises:
        TrainingError: the loss is not a number.
    """
    torch = _torch()
    generator = np.random.default_rng(options.seed)
    optimizer = _optimizer(torch, model, options)
    number = seen = 0
    with _denormals_flushed(torch), _seeded(torch, options.seed):
        for epoch in range(1, options.epochs + 1):
            batches = token_batches(train.lengths, budget=options.batch_tokens, generator=generator)
            for place, rows in enumerate(batches, start=1):
                started = time.perf_counter()
                done = (seen + len(rows) / 2) / (options.epochs * len(train.ids))
                rate = options.learning_rate * rate_factor(done, warmup=options.warmup)
                loss, tokens = _update(torch, model, optimizer, train, rows, rate, options)
                number, seen = number + 1, seen + len(rows)
                if not math.isfinite(loss):
                    raise _diverged(number, options)
                last = place == len(batches)
                yield Step(
                    number=number,
                    epoch=epoch,
                    loss=loss,
                    tokens=tokens,
                    learning_rate=rate,
                    seconds=time.perf_counter() - started,
                    done=seen / (options.epochs * len(train.ids)),
                    dev=_score(torch, model, dev, epoch, options) if last and dev.ids else None,
                )


def keep_best(model: Any, steps: Iterator[Step]) -> Iterator[Step]:
    """Passes steps on; at the end the model is as it was after its best epoch, the first of equals.

    Without dev rows nothing can be compared and the last epoch stands.
    """
    best: DevScore | None = None
    weights: dict[str, Any] = {}
    for step in steps:
        if step.dev and (best is None or step.dev.macro_accuracy > best.macro_accuracy):
            best = step.dev
            weights = {n: p.detach().clone() for n, p in _learning(model)}
        yield step
    for name, parameter in _learning(model):
        if name in weights:
            parameter.data.copy_(weights[name])


def write_finetuned(
    directory: Path,
    *,
    model: Any,
    bundle: Bundle,
    examples: Examples,
    options: FinetuneOptions,
    scores: Sequence[DevScore],
    force: bool = False,
) -> None:
    """Writes the model as a Hugging Face directory with its tokenizer, whole or not at all.

    Raises:
        ModelError: the target is taken; see `checkpoint.check_target`.
    """
    best = max(scores, key=lambda score: score.macro_accuracy, default=None)
    content = {
        "format": 1,
        "lineage": lineage(
            method="full",
            seed=options.seed,
            encoder=bundle.directory,
            encoder_digest=bundle.encoder_digest,
            data=examples.lineage(),
            options=asdict(options),
            packages=("numpy", "torch", "transformers"),
        ),
        "report": {"best": asdict(best) if best else None},
    }

    def write(fresh: Path) -> None:
        model.save_pretrained(fresh)
        link_files(bundle.directory, fresh, names=TOKENIZER_FILES)
        write_json(fresh / XLMR_JSON, content)

    write_model(directory, write, encoder=bundle.directory, force=force)


def _update(
    torch: Any,
    model: Any,
    optimizer: Any,
    train: EncodedRows,
    rows: Sequence[int],
    rate: float,
    options: FinetuneOptions,
) -> tuple[float, int]:
    """One step down the gradient; its loss and the real tokens it read."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    ids_BL, mask_BL = _padded(torch, [train.ids[row] for row in rows], model.config.pad_token_id)
    classes_B = torch.tensor([train.classes[row] for row in rows])
    with _autocast(torch):
        logits_BC = model(input_ids=ids_BL, attention_mask=mask_BL).logits
    loss = torch.nn.functional.cross_entropy(logits_BC.float(), classes_B)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for _, p in _learning(model)], options.clip)
    optimizer.step()
    return float(loss.detach()), int(mask_BL.sum())


def _score(
    torch: Any, model: Any, dev: EncodedRows, epoch: int, options: FinetuneOptions
) -> DevScore:
    model.eval()
    predicted_N = np.zeros(len(dev.ids), np.int64)
    with torch.no_grad(), _autocast(torch):
        for rows in token_batches(dev.lengths, budget=options.batch_tokens):
            ids, mask = _padded(torch, [dev.ids[row] for row in rows], model.config.pad_token_id)
            predicted_N[rows] = model(input_ids=ids, attention_mask=mask).logits.argmax(-1).numpy()
    gold_N, languages_N = np.array(dev.classes), np.array(dev.languages)
    by_language = {
        language: accuracy(gold_N[languages_N == language], predicted_N[languages_N == language])
        for language in sorted(set(dev.languages))
    }
    return DevScore(
        epoch=epoch,
        macro_accuracy=float(np.mean(list(by_language.values()))),
        accuracy_by_language=by_language,
    )


def _padded(torch: Any, rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Any, Any]:
    """Ids [B, L] filled up with `<pad>`, and the mask [B, L] that says what is real."""
    ids_BL = torch.full((len(rows), max(map(len, rows))), pad_id)
    mask_BL = torch.zeros_like(ids_BL)
    for i, row in enumerate(rows):
        ids_BL[i, : len(row)] = torch.tensor(row)
        mask_BL[i, : len(row)] = 1
    return ids_BL, mask_BL


def _optimizer(torch: Any, model: Any, options: FinetuneOptions) -> Any:
    groups = [
        {"params": [p for _, p in _learning(model) if p.ndim > 1]},
        # Biases and norms are not decayed: pulling them to zero helps nothing.
        {"params": [p for _, p in _learning(model) if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay)


def _learning(model: Any) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _diverged(number: int, options: FinetuneOptions) -> TrainingError:
    lower = options.learning_rate / 4
    return TrainingError(
        f"the loss is not a number at step {number}; nothing was written",
        hint=f"try --learning-rate {lower:g} (it was {options.learning_rate:g})",
    )


@contextlib.contextmanager
def _denormals_flushed(torch: Any) -> Iterator[None]:
    """Adam's state fills with denormals, on which a processor is 4 to 16 times slower.

    The mode is the thread's, and others in this process may count on denormals: it is put back.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def _seeded(torch: Any, seed: int) -> Iterator[None]:
    """The same random numbers and the same order of sums each time; the caller's come back."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _autocast(torch: Any) -> Any:
    """bfloat16 where the processor computes in it; elsewhere emulation would be slower."""
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingExtraError("torch", extra="train") from None
    return torch


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", extra="train") from None
    # Its bars and its notice about the new head's random weights say what this run knows.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
