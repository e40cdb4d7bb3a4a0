"""Whether a gate's report allows a version to go live. Pure: the report comes in as plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from xlmr.errors import PromotionError

# What `xlmr gate --json` says, besides the digest of all of it.
_PARTS = ("decision", "task", "model", "live", "data", "evidence", "policy")


def canonical(report: Mapping[str, Any]) -> bytes:
    """A report as bytes, the same for equal ones: what its evidence digest is of."""
    return json.dumps(report, sort_keys=True, separators=(",", ":")).encode()


def evidence_digest(report: Mapping[str, Any]) -> str:
    """SHA-256, hex, of all that a report says, its decision included."""
    return hashlib.sha256(canonical(report)).hexdigest()


def check_promotion(
    report: Mapping[str, Any] | None, *, answers: str, live: str | None, override: str
) -> None:
    """That a version may go live: by a gate's report, or by a reason why it may without.

    Args:
        report, answers, live: as `check_report` takes them; None for no report.
        override: the reason; empty for none.

    Raises:
        PromotionError: it may not; says what to do.
    """
    try:
        if report is None:
            raise PromotionError(
                "going live needs a gate's report",
                hint="`xlmr gate --out FILE`, then --report FILE; or --override REASON",
            )
        check_report(report, answers=answers, live=live)
    except PromotionError:
        if not override:
            raise


def check_report(report: Mapping[str, Any], *, answers: str, live: str | None) -> None:
    """That a gate released this model, compared with the one that is live.

    Args:
        report: what `xlmr gate --json` wrote.
        answers: digest of what makes the version answer (`Manifest.answers`).
        live: the live version's; None where nothing is live.

    Raises:
        PromotionError: it did not, or not this model, or against another; says what to do.
    """
    if any(name not in report for name in (*_PARTS, "digest")):
        raise PromotionError("not a gate's report", hint="`xlmr gate --out FILE` writes one")
    said = {name: value for name, value in report.items() if name != "digest"}
    if evidence_digest(said) != report["digest"]:
        raise PromotionError(
            "the gate's report was edited: its digest is of something else",
            hint="run `xlmr gate` again",
        )
    subject = _digest(report["model"])
    if subject != answers:
        raise PromotionError(
            f"the gate's report is on model {str(subject)[:12]}, this version is {answers[:12]}",
            hint="run `xlmr gate` on this version",
        )
    decision = report["decision"]
    if not isinstance(decision, Mapping) or decision.get("released") is not True:
        reasons = decision.get("reasons") if isinstance(decision, Mapping) else None
        why = [str(r.get("message")) for r in reasons or () if isinstance(r, Mapping)]
        raise PromotionError(f"the gate refused it: {'; '.join(why) or 'no reason given'}")
    compared = _digest(report["live"])
    if live is not None and compared != live:
        against = f"model {str(compared)[:12]}" if compared else "nothing"
        raise PromotionError(
            f"the gate compared it with {against}, and live is model {live[:12]}",
            hint="run `xlmr gate --against` what is live now",
        )


def _digest(said: object) -> object:
    return said.get("digest") if isinstance(said, Mapping) else None
