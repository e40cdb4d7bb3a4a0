"""Text → answer in one process, no server: what `xlmr.load` returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import TaskError
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.prepared import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillOptions,
    Options,
    Prepared,
    RerankOptions,
    TagOptions,
    ZeroShotOptions,
    compute,
)
from xlmr.model.runtime import Runtime
from xlmr.model.runtimes import open_runtime
from xlmr.model.tasks import open_tasks
from xlmr.settings import Settings
from xlmr.types import (
    Classification,
    Embedding,
    Filling,
    LongText,
    Ranked,
    SpanAnswer,
    Tagging,
)

Array = NDArray[np.float32]


def load(
    path: str | Path,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    settings: Settings | None = None,
) -> Predictor:
    """Opens a model directory for prediction in this process.

    Args:
        path: the model directory.
        runtime: `native` or `reference`; None as `settings` say.
        precision: `int8`, `bf16` or `fp32`; None as `settings` say.
        threads: compute threads, 0 for all the process may use; None as `settings` say.
        settings: None reads the environment.

    Raises:
        ModelNotFoundError: no model there.
        ModelRefusedError: not an XLM-R model; names file and field.
        WeightsError: weights are missing, truncated or of another model.
        SettingsError: a setting has a value it cannot have.
    """
    settings = Settings.from_environment() if settings is None else settings
    bundle = open_bundle(Path(path), cache_dir=settings.cache_dir)
    opened = open_runtime(
        bundle,
        name=settings.runtime if runtime is None else runtime,
        precision=settings.precision if precision is None else precision,
        threads=settings.threads if threads is None else threads,
        isa=settings.isa,
        batch_tokens=settings.batch_tokens,
        cache_dir=settings.cache_dir,
    )
    return Predictor(bundle, opened)


class Predictor:
    """A model ready to answer. Any number of threads may ask at once.

    Each verb takes a list and gives one answer for each item, with its token counts, whether the
    text was cut, and how many windows were read. `long` says what becomes of a text longer than the
    model reads: `truncate` cuts it and says so, `window` reads all of it in overlapping windows,
    `error` refuses it.

    Every verb raises `TaskError` if the model has no such head, and `InputError`, with the place of
    the item, for what is no text.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self._tasks = open_tasks(bundle)

    @property
    def tasks(self) -> frozenset[str]:
        """What this model can be asked."""
        return frozenset(self._tasks)

    @property
    def max_tokens(self) -> int:
        """Tokens the model reads of one text, special tokens included."""
        return self.bundle.max_tokens

    def prepare(
        self, task: str, items: Sequence[Any], options: Options | None = None
    ) -> Prepared[Any]:
        """Checks and encodes items; the result only lacks its vectors.

        Raises:
            TaskError: the model has no head for this.
            InputError: an item or option that cannot be used; names its place.
            TooLongError: a text longer than the model reads, where that was to be refused.
        """
        if task not in self._tasks:
            raise TaskError(
                f"the model cannot {task.replace('_', ' ')}",
                hint=f"it can: {', '.join(sorted(self._tasks))}",
            )
        found = self._tasks[task]
        return found.prepare(items, found.checked(options))

    def compute(self, prepared: Prepared[Any]) -> list[Array]:
        """The vectors that `prepared.finish` lacks, one array for each encoding."""
        return list(compute(prepared, self.runtime))

    def classify(
        self,
        texts: Sequence[str | tuple[str, str]],
        *,
        top: int | None = None,
        long: LongText = "truncate",
        raw_scores: bool = False,
        languages: Sequence[str] | None = None,
    ) -> list[Classification]:
        """Labels with probabilities, falling; values for regression heads.

        Args:
            texts: what to classify; pairs where the model was trained on pairs, such as premise
                and hypothesis.
            top: how many labels; None for all.
            long: see the class. The scores of windows are averaged.
            raw_scores: the head's outputs rather than probabilities; nothing is calibrated.
            languages: of each text, where you know them. Otherwise they are identified where the
                model's calibration goes by language.
        """
        options = ClassifyOptions(top=top, long=long, raw_scores=raw_scores, languages=languages)
        return self._answer("classify", texts, options)

    def tag(
        self, texts: Sequence[str | Sequence[str]], *, long: LongText = "truncate"
    ) -> list[Tagging]:
        """Entities, over whole words.

        Args:
            texts: texts, or lists of words, which are read joined by single spaces.
            long: see the class. A token is taken from the window where it stands farthest inside.
        """
        return self._answer("tag", texts, TagOptions(long=long))

    def answer(
        self,
        questions_contexts: Sequence[tuple[str, str]],
        *,
        long: LongText = "window",
        max_answer_tokens: int = 30,
        must_answer: bool = False,
    ) -> list[SpanAnswer]:
        """The span of each context that answers its question; an empty one for "no answer".

        Args:
            questions_contexts: (question, context) pairs.
            long: see the class. The best span of all windows is taken.
            max_answer_tokens: longest answer.
            must_answer: whether "no answer" is no option, however likely it is.
        """
        options = AnswerOptions(
            long=long, max_answer_tokens=max_answer_tokens, must_answer=must_answer
        )
        return self._answer("answer", questions_contexts, options)

    def embed(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        long: LongText = "truncate",
    ) -> list[Embedding]:
        """Sentence vectors, float32 [D].

        Args:
            texts: what to embed.
            prompt: name of one of the model's prompts; None for its default, "" for none at all.
            dimensions: how many numbers are kept, from the first on; None for all.
            normalize: whether vectors are scaled to length 1; None as the model says.
            long: see the class. The vectors of windows are averaged.
        """
        options = EmbedOptions(prompt=prompt, dimensions=dimensions, normalize=normalize, long=long)
        return self._answer("embed", texts, options)

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        raw_scores: bool = False,
        long: LongText = "truncate",
    ) -> list[Ranked]:
        """Documents in falling order of relevance.

        Args:
            query: what they are ranked for.
            documents: what is ranked.
            raw_scores: the head's output rather than a relevance between 0 and 1.
            long: see the class. A document is as relevant as its best window.
        """
        options = RerankOptions(query=query, raw_scores=raw_scores, long=long)
        return self._answer("rerank", documents, options)

    def zero_shot(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        template: str = "This example is {}.",
        multi_label: bool = False,
        long: LongText = "truncate",
    ) -> list[Classification]:
        """Labels nobody trained, by natural language inference.

        Args:
            texts: what to classify.
            labels: the candidates.
            template: the hypothesis; its first `{}` becomes the label.
            multi_label: whether several labels may fit one text.
            long: see the class. The scores of windows are averaged.
        """
        options = ZeroShotOptions(
            labels=labels, template=template, multi_label=multi_label, long=long
        )
        return self._answer("zero_shot", texts, options)

    def fill(self, texts: Sequence[str], *, top: int = 5) -> list[Filling]:
        """Candidates for each `<mask>`. What stands beyond the model's length is not read.

        Args:
            texts: texts with at least one `<mask>`.
            top: how many candidates for each.
        """
        return self._answer("fill", texts, FillOptions(top=top))

    def close(self) -> None:
        """Gives the memory back. Calling it twice is harmless."""
        self.runtime.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, task: str, items: Sequence[Any], options: Options) -> list[Any]:
        prepared = self.prepare(task, items, options)
        return prepared.finish(compute(prepared, self.runtime))
