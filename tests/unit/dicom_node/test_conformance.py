from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.conformance import TABLES, renewed, store_statuses
from dicom_node.encoding.statuses import StoreStatus
from dicom_node.intake.ingest import STATUSES

STATEMENT = Path(__file__).parents[3] / "docs" / "conformance.md"


def test_the_statement_says_what_the_code_negotiates() -> None:
    text = STATEMENT.read_text(encoding="utf-8")
    assert renewed(text) == text


def test_a_table_that_is_left_out_is_noticed() -> None:
    text = STATEMENT.read_text(encoding="utf-8")
    for name in TABLES:
        with pytest.raises(ValueError, match=name):
            renewed(text.replace(f"<!-- {name}: end -->", ""))


def test_every_status_that_is_answered_is_stated() -> None:
    table = store_statuses()
    for status in {status for _, status in STATUSES} | {StoreStatus.SUCCESS}:
        assert f"0x{status:04X}" in table
