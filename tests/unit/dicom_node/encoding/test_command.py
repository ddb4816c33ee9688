from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from dicom_node.encoding import command
from dicom_node.encoding.command import MalformedCommandError, StoreCommand


def request() -> C_STORE:
    primitive = C_STORE()
    primitive.MessageID = 513
    primitive.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.4"
    primitive.AffectedSOPInstanceUID = "1.2.3.4"
    primitive.Priority = 0
    primitive.DataSet = BytesIO(b"\0\0")
    return primitive


def test_reads_what_pynetdicom_writes() -> None:
    message = C_STORE_RQ()
    message.primitive_to_message(request())
    pdu = next(message.encode_msg(1, 16384)).presentation_data_value_list[0][1]
    values = command.elements(pdu[1:])
    assert command.command_field(values) == command.C_STORE_RQ
    assert command.store_command(values) == StoreCommand(
        message_id=513,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1.4",
        sop_instance_uid="1.2.3.4",
        has_data_set=True,
    )


@pytest.mark.parametrize("comment", ["", "disk space is low", "x" * 70])
def test_pynetdicom_reads_what_we_write(comment: str) -> None:
    asked = StoreCommand(message_id=9, sop_class_uid="1.2.3", sop_instance_uid="1.2.3.4", has_data_set=True)
    pdu = P_DATA_TF()
    pdu.decode(command.p_data_tf(3, command.store_response(asked, 0xA700, comment), command=True))
    message = DIMSEMessage()
    assert message.decode_msg(pdu.to_primitive())
    response = message.message_to_primitive()
    assert isinstance(response, C_STORE)
    assert (response.Status, response.MessageIDBeingRespondedTo) == (0xA700, 9)
    assert response.AffectedSOPInstanceUID == "1.2.3.4"
    assert (response.ErrorComment or "") == comment[:64]
    assert message.context_id == 3


def test_a_uid_that_is_none_is_not_echoed() -> None:
    asked = StoreCommand(message_id=9, sop_class_uid="1.2.3", sop_instance_uid="../..", has_data_set=True)
    assert b".." not in command.store_response(asked, 0xA900)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    try:
        command.store_command(command.elements(noise))
    except MalformedCommandError:
        return
    raise AssertionError("noise was read as a C-STORE request")
