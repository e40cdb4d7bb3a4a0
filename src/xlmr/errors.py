"""Everything that can go wrong, as one tree.

    XlmrError
    ├── InputError            the caller's text or options cannot be used
    │   ├── TooLongError      the text exceeds a stated limit and truncation was refused
    │   ├── TooManyError      more texts than one request may hold
    │   └── HeaderError       a header of the request says what it cannot say
    ├── UnauthenticatedError  who asks is not known: no key, a wrong one, or one that has expired
    ├── ForbiddenError        who asks is known and may not do this
    ├── SettingsError         a knob or environment variable has a value it cannot have
    ├── DataError             a training or evaluation file cannot be read as what it should be
    ├── ModelError            a model directory cannot be used
    │   ├── ModelNotFoundError
    │   ├── ModelRefusedError     not XLM-R shaped; names the field that is wrong
    │   ├── WeightsError          missing, corrupted, truncated or foreign weights
    │   ├── DigestMismatchError   a file is not the one that was promised
    │   ├── ProofError            a model's own promises are not kept; it is not served
    │   ├── ModelConflictError    not while another model, version or alias is as it is
    │   └── TaskError             the model has no head for what was asked
    ├── TrainingError         a run cannot go on: its loss is not a number
    ├── EngineError           a runtime failed
    │   ├── BudgetError           the batch exceeds the runtime's token budget; refused before work
    │   ├── NonFiniteError        the model computed what is no number
    │   └── CancelledError        the work was cancelled between layers
    ├── RegistryError         the registry cannot do, or does not allow, what was asked
    │   ├── VersionNotFoundError      no such version or alias
    │   ├── RegistryConflictError     somebody else changed it first; nothing was changed
    │   ├── RegistryUnavailableError  its database or its store cannot be reached, or is full
    │   ├── PromotionError            the evidence does not allow this version to go live
    │   ├── SignatureError            unsigned, altered, or signed with a key that is not trusted
    │   └── JournalError              the journal is not what was written; names the line
    ├── FeedbackOffError      feedback was sent to a server that keeps none
    ├── UnavailableError      not now; `retry_after_s` says when to come back
    │   ├── OverloadedError       the answer would come after its deadline; refused before any work
    │   ├── DeadlineError         the deadline passed while the request waited
    │   ├── QuotaError            the caller has used up what it may use
    │   └── FeedbackUnavailableError  the feedback store cannot be reached, is busy, or is full
    └── MissingExtraError     an optional dependency is not installed; prints the command to paste

Each error carries a stable `code` for machines, a message that names the fault, and a `hint`
that says what to do. No HTTP status lives here: doors translate codes.
"""

from __future__ import annotations


class XlmrError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        code: stable identifier, safe to match on.
        message: what is wrong, without any user's text in it.
        hint: what to do about it; may be empty.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class InputError(XlmrError):
    """The caller's input cannot be used. `path` points at it: `$.input[3]`."""

    code = "invalid_input"

    def __init__(self, message: str, *, path: str = "$", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {super().__str__()}"


class TooLongError(InputError):
    """A text exceeds a stated limit and the caller asked not to cut it."""

    code = "too_long"


class TooManyError(InputError):
    """More texts than one request may hold."""

    code = "too_many_items"


class HeaderError(InputError):
    """A header says what it cannot say; `path` is its name."""

    code = "invalid_header"


class UnauthenticatedError(XlmrError):
    """Who asks is not known: no key, a wrong one, or one that has expired."""

    code = "unauthenticated"


class ForbiddenError(XlmrError):
    """Who asks is known, and their roles do not allow this."""

    code = "forbidden"


class SettingsError(XlmrError):
    """A setting has a value it cannot have."""

    code = "invalid_setting"


class DataError(XlmrError):
    """A data file cannot be read as what it should be; the message names file, line and column."""

    code = "invalid_data"


class ModelError(XlmrError):
    """A model directory cannot be used."""

    code = "model_error"


class ModelNotFoundError(ModelError):
    """No model of that name or at that place."""

    code = "model_not_found"


class ModelRefusedError(ModelError):
    """The directory is not an XLM-R model; `field` names what is wrong."""

    code = "model_refused"

    def __init__(self, message: str, *, field: str, hint: str = "") -> None:
        super().__init__(f"{field}: {message}", hint=hint)
        self.field = field


class WeightsError(ModelError):
    """Weights are missing, corrupted, truncated or of another model."""

    code = "weights_error"


class DigestMismatchError(ModelError):
    """A file's SHA-256 is not the promised one."""

    code = "digest_mismatch"


class ProofError(ModelError):
    """A model does not do what it promises; the message names the check. It is not served."""

    code = "proof_failed"


class ModelConflictError(ModelError):
    """Not while another model, version or alias is as it is."""

    code = "model_conflict"


class TaskError(ModelError):
    """The model has no head for the task asked of it."""

    code = "task_not_supported"


class TrainingError(XlmrError):
    """A training run cannot go on."""

    code = "training_failed"


class EngineError(XlmrError):
    """A runtime failed while computing."""

    code = "engine_error"


class BudgetError(EngineError):
    """The batch exceeds the runtime's token budget; nothing was allocated for it."""

    code = "budget_exceeded"


class NonFiniteError(EngineError):
    """The model computed NaN or infinity where a number should be; nothing of it is told."""

    code = "non_finite"


class CancelledError(EngineError):
    """The work was cancelled between two layers."""

    code = "cancelled"


class RegistryError(XlmrError):
    """The registry cannot do, or does not allow, what was asked."""

    code = "registry_error"


class VersionNotFoundError(RegistryError):
    """No such version or alias."""

    code = "version_not_found"


class RegistryConflictError(RegistryError):
    """Somebody else changed it first; nothing was changed."""

    code = "registry_conflict"


class RegistryUnavailableError(RegistryError):
    """Its database or its store cannot be reached, is busy for too long, or is full."""

    code = "registry_unavailable"


class PromotionError(RegistryError):
    """The evidence does not allow this version to go live."""

    code = "promotion_refused"


class SignatureError(RegistryError):
    """Unsigned, altered since it was signed, or signed with a key that is not trusted."""

    code = "signature_refused"


class JournalError(RegistryError):
    """The journal is not what was written; the message names the line."""

    code = "journal_broken"


class FeedbackOffError(XlmrError):
    """Feedback was sent to a server that keeps none."""

    code = "feedback_off"


class UnavailableError(XlmrError):
    """Not now. `retry_after_s` is the soonest sensible moment to try again, in seconds.

    `reason` is a word for what is short, by which refusals are counted.
    """

    code = "unavailable"
    reason = "other"

    def __init__(
        self, message: str, *, retry_after_s: float = 1.0, hint: str = "", reason: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        if reason:
            self.reason = reason


class OverloadedError(UnavailableError):
    """The answer would come after its deadline; nothing was done for it."""

    code = "overloaded"
    reason = "deadline"


class DeadlineError(UnavailableError):
    """The deadline passed while the request waited; it was not computed."""

    code = "deadline_exceeded"
    reason = "late"


class QuotaError(UnavailableError):
    """The caller has used up what it may use of requests or tokens."""

    code = "quota_exceeded"


class FeedbackUnavailableError(UnavailableError):
    """The feedback store's database cannot be reached, is busy for too long, or is full."""

    code = "feedback_unavailable"


class MissingExtraError(XlmrError):
    """An optional dependency is not installed."""

    code = "missing_extra"

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"{package} is not installed", hint=f"pip install 'xlmr[{extra}]'")
        self.package = package
        self.extra = extra


def let_go_of_frames(error: BaseException) -> None:
    """Forgets where an error was raised, and those before it, once it has been told.

    The frames it came through hold what holds the error. Such a ring waits for the collector, and
    a server refuses thousands a second when it has least time for that.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
