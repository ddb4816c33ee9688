"""A request of the documented length, and one reference in it that is no UID."""

from __future__ import annotations

import queue

import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import VLPhotographicImageStorage, generate_uid

from dicom_node.acceptor.scp import Node
from dicom_node.commitment.provider import parse_action
from service.database.pool import Pool
from service.errors import InvalidIdentifierError
from tests import dicom_objects
from tests.dicom_objects import photograph
from tests.integration.dicom_node.commitment.requester import Reports, ask, release_when_reported

_MOST = 10_000
_MALFORMED = "1.2.no.uid"


def reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = VLPhotographicImageStorage
    item.add(DataElement("ReferencedSOPInstanceUID", "UI", uid, validation_mode=config.IGNORE))
    return item


def request(uids: list[str]) -> Dataset:
    action = Dataset()
    action.TransactionUID = generate_uid()
    action.ReferencedSOPSequence = Sequence(map(reference, uids))
    return action


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about the malformed one
def test_ten_thousand_references_of_which_one_is_no_uid(node: Node, pool: Pool) -> None:
    kept = photograph()
    assert dicom_objects.store(node.port, kept).Status == 0x0000
    others = [f"1.2.3.{number}" for number in range(_MOST - 2)]
    reports: Reports = queue.Queue()
    status, association = ask(node.port, request([_MALFORMED, *others, str(kept.SOPInstanceUID)]), reports)
    assert status == 0x0000
    event_type, report = reports.get(timeout=60)
    release_when_reported(association, pool)
    assert event_type == 2
    assert [i.ReferencedSOPInstanceUID for i in report.ReferencedSOPSequence] == [kept.SOPInstanceUID]
    failed = {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in report.FailedSOPSequence}
    assert failed == dict.fromkeys([_MALFORMED, *others], 0x0112)


def test_more_than_that_is_refused() -> None:
    item = reference("1.2.3")
    action = request([])
    action.ReferencedSOPSequence = Sequence([item] * (_MOST + 1))
    with pytest.raises(InvalidIdentifierError, match="10001 references"):
        parse_action(action)
