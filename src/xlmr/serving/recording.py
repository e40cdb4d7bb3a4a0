"""What is told of a request once it is over, to metrics, log and trace; never a text of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from xlmr.errors import QuotaError, UnavailableError, XlmrError
from xlmr.serving.preparation import joined, size_of
from xlmr.serving.question import Answered, Question, Timing
from xlmr.telemetry.certainty import confidence, entropy
from xlmr.telemetry.logs import FINGERPRINTED_TEXTS, Fingerprinter, RequestLog, RequestRecord
from xlmr.telemetry.metrics import Item, Metrics, bounded_language
from xlmr.telemetry.traces import Stage, Trace, Tracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xlmr.serving.observing.observer import Observer
    from xlmr.serving.pool import Served
    from xlmr.serving.quota import Charge
    from xlmr.serving.routing.dealing import Dealt

CLIENT_GONE = "client_gone"

# As the log tells them.
_STAGES = ("read", "tokenise", "queue", "infer", "decode")
# Codes of what is our fault, as a trace marks it.
_FAULTS = frozenset({"engine_error", "non_finite", "internal"})


class Life(msgspec.Struct):
    """What is learned about a request while it lives.

    Attributes:
        arrived: when its first byte was here, on the clock of `time.perf_counter`.
        served: the model that answers, once it is known.
        code: "ok" or the code of what went wrong.
        error: what went wrong, where somebody raised it on purpose.
        stages: those that are over, in order of their ends.
        spent: seconds in each of them so far, by its name.
        charge: what it is charged; None where its caller has no limits.
        worked_tokens: how many were computed for it; those of answers that were known are not.
        dealt: what a route gave it to; None where none is followed.
    """

    question: Question
    arrived: float
    served: Served | None = None
    code: str = "internal"
    error: XlmrError | None = None
    answered: Answered | None = None
    stages: list[Stage] = []
    spent: dict[str, float] = {}
    charge: Charge | None = None
    worked_tokens: int = 0
    dealt: Dealt | None = None

    @classmethod
    def of(cls, question: Question) -> Life:
        """Begins where the request arrived, as far as the door said when."""
        if not question.arrived:
            return cls(question, time.perf_counter())
        life = cls(question, question.arrived)
        life.stage("read", question.arrived)
        return life

    def stage(self, name: str, started: float, ended: float | None = None) -> None:
        """Says that a stage is over; now, unless told when."""
        if ended is None:
            ended = time.perf_counter()
        self.stages.append(Stage(name, started, ended))
        self.spent[name] = self.spent.get(name, 0.0) + ended - started

    def timing(self) -> Timing:
        """Where the time went so far."""
        seconds = self.spent.get
        total_s = time.perf_counter() - self.arrived
        return Timing(
            seconds("tokenise", 0.0), seconds("queue", 0.0), seconds("infer", 0.0), total_s
        )


class Recorder:
    """Tells everyone who is to know of a request."""

    def __init__(
        self,
        metrics: Metrics,
        log: RequestLog,
        tracer: Tracer | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.metrics = metrics
        self._log = log
        self._tracer = tracer
        self._observer = observer
        self._fingerprint = Fingerprinter()

    def trace(self, traceparent: str = "") -> Trace | None:
        """Where a request stands among traces; None where it is in none, or nobody is told."""
        return None if self._tracer is None else self._tracer.begin(traceparent)

    def refused(
        self,
        request_id: str,
        task: str,
        error: XlmrError | None,
        *,
        door: str = "",
        caller: str = "",
        arrived: float = 0.0,
        trace: Trace | None = None,
    ) -> None:
        """Tells of a request that never became a question; without an error its client hung up."""
        code = CLIENT_GONE if error is None else error.code
        self._shed(error)
        now = time.perf_counter()
        arrived = arrived or now
        self.metrics.request(task=task, model="", code=code, seconds=None, door=door)
        if self._log.takes(code):
            self._log.write(
                RequestRecord(
                    request=request_id,
                    task=task,
                    model="",
                    code=code,
                    ms=_ms(now - arrived),
                    items=0,
                    tokens=0,
                    languages=(),
                    door=door,
                    caller=caller,
                    trace=trace.id if trace else "",
                )
            )
        if trace is not None and self._tracer is not None:
            attributes = {"xlmr.task": task, "xlmr.code": code, "xlmr.request": request_id}
            self._tracer.end(
                trace,
                name=task,
                started=arrived,
                ended=now,
                stages=(),
                attributes=attributes,
                fault=code in _FAULTS,
            )

    def over(self, life: Life) -> None:
        """Tells what became of a question."""
        ended = time.perf_counter()
        self._shed(life.error)
        question, answered = life.question, life.answered
        model, version = ("", "") if life.served is None else _names(life.served)
        self.metrics.request(
            task=question.task,
            model=model,
            version=version,
            door=question.door,
            code=life.code,
            seconds=ended - life.arrived,
            stages=life.spent.items(),
        )
        items = () if answered is None else self._items(life, answered)
        if self._log.takes(life.code):
            self._log.write(self._record(life, items, ended))
        if question.trace is not None and self._tracer is not None:
            self._end_trace(self._tracer, question.trace, life, ended)
        if self._observer is not None:
            self._observer.tell(life, ended - life.arrived)

    def _shed(self, error: XlmrError | None) -> None:
        # What is beyond a quota is counted by the quota.
        if isinstance(error, UnavailableError) and not isinstance(error, QuotaError):
            self.metrics.shed(error.reason)

    def _record(self, life: Life, items: Sequence[Item], ended: float) -> RequestRecord:
        """What the log says of it."""
        question, answered, spent = life.question, life.answered, life.spent
        read, tokenise, queue, infer, decode = [_ms(spent.get(stage, 0.0)) for stage in _STAGES]
        model, version = ("", "") if life.served is None else _names(life.served)
        texts = question.items[:FINGERPRINTED_TEXTS]
        return RequestRecord(
            request=question.id,
            task=question.task,
            model=model,
            version=version,
            door=question.door,
            caller=question.caller.name,
            trace=question.trace.id if question.trace else "",
            code=life.code,
            ms=_ms(ended - life.arrived),
            items=len(question.items),
            tokens=answered.tokens if answered else 0,
            languages=tuple(dict.fromkeys([item.language for item in items])),
            lengths=tuple([size_of(text) for text in texts]),
            fingerprints=tuple([self._fingerprint(joined(text)) for text in texts]),
            read_ms=read,
            tokenise_ms=tokenise,
            queue_ms=queue,
            infer_ms=infer,
            decode_ms=decode,
        )

    def _items(self, life: Life, answered: Answered) -> Sequence[Item]:
        """Counts each text."""
        items: list[Item] = []
        unknown = truncated = 0
        for outcome in answered.outcomes:
            answer, language = outcome.answer, outcome.language
            items.append(
                Item(
                    bounded_language(language.code) if language else "und",
                    outcome.error.code if outcome.error else "ok",
                    confidence(answer),
                    entropy(answer),
                    getattr(answer, "abstained", None),
                )
            )
            if answer is not None:
                unknown += answer.accounting.unknown
                truncated += answer.accounting.truncated
        self.metrics.items(
            items,
            task=life.question.task,
            model=answered.model.name,
            version=answered.model.version,
            computed=life.worked_tokens,
            unknown=unknown,
            truncated=truncated,
        )
        return items

    @staticmethod
    def _end_trace(tracer: Tracer, trace: Trace, life: Life, ended: float) -> None:
        question, answered = life.question, life.answered
        attributes: dict[str, str | int] = {
            "xlmr.task": question.task,
            "xlmr.request": question.id,
            "xlmr.code": life.code,
            "xlmr.door": question.door,
            "xlmr.caller": question.caller.name,
            "xlmr.items": len(question.items),
        }
        if life.served is not None:
            attributes["xlmr.model"], attributes["xlmr.version"] = _names(life.served)
        if answered is not None:
            attributes["xlmr.tokens"] = answered.tokens
        tracer.end(
            trace,
            name=question.task,
            started=life.arrived,
            ended=ended,
            stages=life.stages,
            attributes=attributes,
            fault=life.code in _FAULTS,
        )


def _names(served: Served) -> tuple[str, str]:
    return served.ref.name, served.ref.version


def _ms(seconds: float) -> float:
    """Milliseconds, to the microsecond."""
    return int(seconds * 1e6) / 1e3
