"""Something that fails is said once, and once that it works again."""

from __future__ import annotations

import logging

from xlmr.errors import XlmrError

logger = logging.getLogger("xlmr.serving.follow")


class Outage:
    """One thing that may fail for a while; `what` says what that means."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = ""

    def failed(self, fault: XlmrError) -> None:
        """It failed; another reason than the last one is said too."""
        if self._said != fault.message:
            logger.warning("%s: %s", self._what, fault)
        self._said = fault.message

    def over(self) -> None:
        """It works."""
        if self._said:
            logger.warning("no longer true: %s", self._what)
        self._said = ""
