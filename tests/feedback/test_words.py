"""No value of a record ever stands in an exception's words."""

from __future__ import annotations

import pytest
import sqlalchemy as sql
from tests.feedback.parts import record

from xlmr.errors import FeedbackUnavailableError
from xlmr.feedback.store import Store
from xlmr.feedback.tables import RECORDS


def test_a_failed_write_quotes_nothing(database: str) -> None:
    store = Store(database)
    with store.writing() as connection:
        connection.execute(sql.schema.DropTable(RECORDS))
    with pytest.raises(FeedbackUnavailableError) as raised:
        store.add([record(1, text="quokka", label="wombat")])
    fault: BaseException | None = raised.value
    said = ""
    while fault is not None:
        said += str(fault)
        fault = fault.__cause__ or fault.__context__
    assert "xlmr_records" in said
    assert "quokka" not in said
    assert "wombat" not in said
    store.close()
