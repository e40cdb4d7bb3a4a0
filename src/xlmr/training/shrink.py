"""A model is made smaller, on one page: trim the vocabulary, drop layers, measure, write.

`compress` yields what happens; whoever called shows it. The work lies in OUT.run, as a training
run's does: a distillation that was killed continues where its last checkpoint stands.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from xlmr.errors import DataError, SettingsError
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.importing.staging import build_directory
from xlmr.model.jsonfiles import read_object
from xlmr.settings import Settings
from xlmr.training.carried import carry, parent_of, write_compressed
from xlmr.training.checkpoint import lineage, link_files
from xlmr.training.costs import Cost, Subject, measure
from xlmr.training.devices import Device
from xlmr.training.distill import Distillation, blocks, make_examples, reads_pairs
from xlmr.training.loop import Step
from xlmr.training.recipe import Recipe
from xlmr.training.run import Training
from xlmr.training.rundir import open_run
from xlmr.training.texts import Item, Texts, split_off
from xlmr.training.trial import Trial
from xlmr.training.trim import (
    changed_share,
    count_ids,
    kept_ids,
    scripts_of,
    write_tokenizer,
    write_weights,
)

_HELD_OUT_SHARE, _HELD_OUT_MOST = 0.02, 100
# The zero-shot hypothesis that is read where a caller gives no other.
_HYPOTHESIS = "This example is {}."


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be done to a model.

    Attributes:
        languages: trim the vocabulary to these; not at all where empty.
        minimum_uses: a piece that texts use less often is dropped like one that they do not use.
        layers: of the student; None keeps them all.
        most_texts: the student learns from at most so many.
        recipe: how the student learns.
    """

    languages: tuple[str, ...]
    minimum_uses: int
    layers: int | None
    most_texts: int | None
    recipe: Recipe

    def check(self, bundle: Bundle) -> None:
        """Refuses a plan before any work is done for it.

        Raises:
            SettingsError: nothing to do, or more layers than there are.
        """
        if not self.languages and self.layers is None:
            raise SettingsError(
                "nothing to do", hint="--languages trims the vocabulary, --layers drops layers"
            )
        if self.layers is not None:
            blocks(bundle.config.layers, self.layers)

    def options(self) -> dict[str, Any]:
        """Plain values, without where things lie on this machine."""
        made: dict[str, Any] = {}
        if self.languages:
            made |= {"languages": list(self.languages), "minimum_uses": self.minimum_uses}
        if self.layers is not None:
            values = self.recipe.to_json()
            made |= {"layers": self.layers, "most_texts": self.most_texts}
            made |= {name: values[name] for name in ("seed", "run", "optimizer")}
        return made


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A vocabulary was cut.

    Attributes:
        pieces: kept.
        before: there were.
        texts: counted.
        changed: by language, share of the tokens of held-out texts that would be cut otherwise had
            those texts not been counted as well: what to expect of texts nobody has seen.
    """

    pieces: int
    before: int
    texts: int
    changed: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Continued:
    """A run that was killed goes on."""

    path: Path


_Written = TypeVar("_Written")
Fact = Trimmed | Continued | Step | list[Cost]


def compress(
    bundle: Bundle,
    plan: Plan,
    texts: Texts,
    data: Texts,
    trial: Trial | None,
    out: Path,
    *,
    settings: Settings,
    force: bool = False,
    fresh: bool = False,
    counted: Callable[[float, int], None] = lambda done, tokens: None,
) -> Iterator[Fact]:
    """Makes a smaller model; every step is measured beside the model it began with.

    Args:
        bundle: the model.
        plan: checked.
        texts: what the vocabulary is counted on.
        data: what a student learns from.
        trial: labelled rows for the figures by language, if any.
        out: the directory to write.
        settings: of the engine.
        force: replace a model that stands there.
        fresh: forget an unfinished run.
        counted: told of progress while texts are counted: the share done and the new tokens.

    Raises:
        ModelError: the target is taken, or cannot be written.
        TrainingError: see `xlmr.training.loop.train` and `xlmr.training.rundir.open_run`.
        DataError: too few texts.
    """
    plan.check(bundle)
    identity = _identity(bundle, plan, texts, data)
    recipe_toml = "" if plan.layers is None else plan.recipe.to_toml()
    with open_run(out, identity, recipe_toml, fresh=fresh) as run:
        work = run.path / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        told: dict[str, Any] = {"parent": parent_of(bundle)} | plan.options()
        subjects = [Subject("original", bundle.directory, "fp32")]
        subjects.append(replace(subjects[0], precision="int8"))
        smaller = bundle
        if plan.languages:
            trimmed = _built(
                work / "trimmed", lambda fresh: trim(bundle, plan, texts, fresh, counted=counted)
            )
            told |= {"texts": texts.lineage(), "pieces": [trimmed.before, trimmed.pieces]}
            told |= {"changed": dict(trimmed.changed)}
            yield trimmed
            smaller = open_bundle(work / "trimmed", cache_dir=bundle.cache_dir)
            subjects.append(Subject("trimmed", smaller.directory, "int8"))
        seconds = tokens = 0.0
        apart = _apart(bundle, data if plan.layers is not None else texts)
        if plan.layers is not None:
            training = make_training(smaller, plan, data)
            apart = list(training.examples.dev)
            if run.unfinished:
                yield Continued(run.path)
            for step in training.steps(run):
                seconds, tokens = seconds + step.seconds, tokens + step.tokens
                yield step
            _built(work / "student", partial(write_student, training, smaller))
            told |= {"data": data.lineage(), "kept_layers": _kept_layers(training)}
            subjects.append(Subject(f"{plan.layers} layers", work / "student", "int8"))
        costs = measure(subjects, apart, trial, scratch=work / "measured", settings=settings)
        yield costs
        told |= {"figures": [_lasting(cost) for cost in costs]}
        write_compressed(bundle, subjects[-1].directory, told, out, force=force)
        run.finish(_record(identity, told, costs, seconds=seconds, tokens=int(tokens)))
        shutil.rmtree(work, ignore_errors=True)


def trim(
    bundle: Bundle,
    plan: Plan,
    texts: Texts,
    directory: Path,
    *,
    counted: Callable[[float, int], None],
) -> Trimmed:
    """Writes the model with the pieces that texts use into an empty directory."""
    items = texts.singles()
    rest, apart = split_off(items, share=_HELD_OUT_SHARE, most=_HELD_OUT_MOST, seed=0)
    tokenizer = bundle.tokenizer
    starts = [text for text in (*bundle.prompts.values(), *_always_read(bundle)) if text]
    # A prompt's words, and a word glued to one, may be cut as they are nowhere else.
    glued = [start for start in starts if not start[-1].isspace()]
    always = [*starts, *(start + item.texts[0][:64] for start in glued for item in items)]
    said = count_ids(tokenizer, [item.texts[0] for item in rest], progress=counted)
    prompted = frozenset(count_ids(tokenizer, always)) if starts else frozenset[int]()
    content = read_object(bundle.directory / "tokenizer.json")
    scripts = scripts_of((item.texts[0], item.language) for item in items)

    def kept(counts: Mapping[int, int]) -> list[int]:
        used = {id for id, count in counts.items() if count >= plan.minimum_uses}
        return kept_ids(content, used | prompted, scripts)

    unseen = write_tokenizer(bundle, kept(said), directory)
    by_language: dict[str, list[str]] = {}
    for item in apart:
        by_language.setdefault(item.language, []).append(item.texts[0])
    changed = {
        language: changed_share(tokenizer, unseen, by_language[language])
        for language in sorted(by_language)
    }
    ids = kept(said + count_ids(tokenizer, [item.texts[0] for item in apart]))
    write_tokenizer(bundle, ids, directory)
    write_weights(bundle, ids, directory)
    carry(bundle.directory, directory)
    return Trimmed(len(ids), bundle.config.vocabulary, len(items), changed)


def make_training(bundle: Bundle, plan: Plan, data: Texts) -> Training:
    """A run in which a student of the bundle's model learns."""
    assert plan.layers is not None
    examples = make_examples(bundle, data, most=plan.most_texts, seed=plan.recipe.seed)
    objective = Distillation(bundle, plan.recipe, layers=plan.layers)
    return Training(plan.recipe, bundle, examples, Device(), objective=objective)


def write_student(training: Training, teacher: Bundle, directory: Path) -> None:
    """Writes the student as the run left it into an empty directory."""
    assert training.state is not None
    training.objective.save(training.state.network, directory)
    link_files(
        teacher.directory,
        directory,
        names=("tokenizer.json", "tokenizer_config.json", "sentencepiece.bpe.model"),
    )
    carry(teacher.directory, directory)


def _built(directory: Path, write: Callable[[Path], _Written]) -> _Written:
    """What `write` gives, its directory whole or not at all; a full disk is said in plain words."""
    given: list[_Written] = []
    build_directory(directory, lambda fresh: given.append(write(fresh)), force=False)
    return given[0]


def _apart(bundle: Bundle, texts: Texts) -> list[Item]:
    """Texts to measure on where no student learned."""
    items: Sequence[Item] = texts.items if reads_pairs(bundle) else texts.singles()
    apart = split_off(items, share=_HELD_OUT_SHARE, most=_HELD_OUT_MOST, seed=0)[1]
    if not apart:
        raise DataError("one text is too little to measure a model on")
    return apart


def _always_read(bundle: Bundle) -> list[str]:
    """What is read with a user's texts besides the prompts."""
    said = [str(bundle.head.get("prompt", ""))] if bundle.head is not None else []
    if "zero_shot" in bundle.tasks:
        said.append(_HYPOTHESIS)
    return said


def _identity(bundle: Bundle, plan: Plan, texts: Texts, data: Texts) -> dict[str, Any]:
    """What makes two runs the same."""
    versions = lineage(
        method="full",
        seed=0,
        encoder=bundle.directory,
        encoder_digest="",
        data=(),
        options={},
        packages=("numpy", "tokenizers", "torch", "transformers"),
    )["versions"]
    return {
        "plan": plan.options(),
        "model": bundle.digest,
        "texts": texts.lineage(),
        "data": data.lineage(),
        "versions": versions,
    }


def _kept_layers(training: Training) -> list[int]:
    assert isinstance(training.objective, Distillation)
    return [first for first, _ in training.objective.blocks]


def _lasting(cost: Cost) -> dict[str, Any]:
    """A cost without its speed, which another day would be another."""
    return {name: value for name, value in asdict(cost).items() if name != "tokens_per_second"}


def _record(
    identity: Mapping[str, Any],
    told: Mapping[str, Any],
    costs: Sequence[Cost],
    *,
    seconds: float,
    tokens: int,
) -> dict[str, Any]:
    return {
        "identity": dict(identity),
        "compressed": dict(told),
        "costs": [asdict(cost) for cost in costs],
        "learned_tokens": tokens,
        "learned_seconds": round(seconds, 3),
    }
