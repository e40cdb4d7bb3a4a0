"""Stores are tried where those of feedback are."""

from __future__ import annotations

from tests.feedback.conftest import database as database
from tests.feedback.conftest import postgres as postgres
