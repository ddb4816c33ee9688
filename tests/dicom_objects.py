"""DICOM objects for tests, made from arrays; and an SCU to send them with."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLPhotographicImageStorage,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dsutils import encode

from dicom_node.encoding.command import p_data_tf


def photograph(
    *,
    patient_id: str | None = "P1",
    patient_name: str = "Doe^Jane",
    character_set: str | None = None,
    transfer_syntax: str = JPEGBaseline8Bit,
    sop_class: str = VLPhotographicImageStorage,
    size: tuple[int, int] = (48, 64),
    seed: int = 0,
) -> Dataset:
    """A VL Photographic Image of noise, (rows, columns) of ``size``, with file meta information."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    ds = Dataset()
    if character_set is not None:
        ds.SpecificCharacterSet = character_set.split("\\")
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.Modality = "XC"
    ds.PatientName = patient_name
    if patient_id is not None:
        ds.PatientID = patient_id
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20260102", "101112", "1"
    ds.AccessionNumber, ds.SeriesNumber, ds.InstanceNumber = "", "1", "1"
    ds.Rows, ds.Columns = size
    ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 3, 8, 8, 7
    ds.PixelRepresentation, ds.PlanarConfiguration = 0, 0
    if transfer_syntax == JPEGBaseline8Bit:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        ds.PhotometricInterpretation = "YBR_FULL_422"
        ds.PixelData = encapsulate([buffer.getvalue()])
        ds["PixelData"].is_undefined_length = True
    else:
        ds.PhotometricInterpretation = "RGB"
        ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = transfer_syntax  # type: ignore[assignment]
    return ds


def save(ds: Dataset, path: Path) -> Path:
    """Write a Part 10 file."""
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def associate(
    port: int, *contexts: tuple[str, str], calling: str = "CAMERA", called: str = "SEMBLANCE"
) -> Association:
    """An association with a node on this machine, for pairs of SOP class and transfer syntax."""
    ae = AE(ae_title=calling)
    for sop_class, transfer_syntax in contexts or (
        (VLPhotographicImageStorage, JPEGBaseline8Bit),
        (VLPhotographicImageStorage, ExplicitVRLittleEndian),
    ):
        ae.add_requested_context(sop_class, transfer_syntax)
    return ae.associate("127.0.0.1", port, ae_title=called)


def store(port: int, ds: Dataset) -> Dataset:
    """Send one object; answers the response's command set (empty when there was none)."""
    association = associate(port, (ds.SOPClassUID, ds.file_meta.TransferSyntaxUID))
    assert association.is_established
    try:
        return association.send_c_store(ds)
    finally:
        association.release()


def store_pdus(
    ds: Dataset, data_set: bytes, sop_instance_uid: str | None = None, step: int = 16000
) -> list[bytes]:
    """The P-DATA-TF PDUs of one C-STORE request on context 1, made by hand."""
    body = (
        _element(0x0002, ds.SOPClassUID.encode())
        + _element(0x0100, struct.pack("<H", 1))
        + _element(0x0110, struct.pack("<H", 7))
        + _element(0x0700, struct.pack("<H", 0))
        + _element(0x0800, struct.pack("<H", 1))
        + _element(0x1000, (sop_instance_uid or ds.SOPInstanceUID).encode())
    )
    pdus = [p_data_tf(1, _element(0, struct.pack("<I", len(body))) + body, command=True)]
    fragments = [data_set[i : i + step] for i in range(0, len(data_set), step)]
    for index, fragment in enumerate(fragments):
        header = 2 if index == len(fragments) - 1 else 0
        pdus.append(struct.pack(">BBIIBB", 4, 0, len(fragment) + 6, len(fragment) + 2, 1, header) + fragment)
    return pdus


def _element(number: int, value: bytes) -> bytes:
    padded = value + b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(padded)) + padded


def send_raw(
    port: int,
    ds: Dataset,
    *,
    sop_instance_uid: str | None = None,
    data_set: bytes | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> int | None:
    """Send what pynetdicom would not: bytes by hand on a negotiated association.

    Returns:
        The status; None when there was no answer.
    """
    association = associate(port, (ds.SOPClassUID, transfer_syntax))
    assert association.is_established
    encoded = data_set or encode(ds, False, True)
    assert encoded is not None
    association._reactor_checkpoint.clear()
    for pdu in store_pdus(ds, encoded, sop_instance_uid):
        association.dul.socket.socket.sendall(pdu)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return response.Status if response is not None else None


def association_request(*, calling: str = "CAMERA", called: str = "SEMBLANCE") -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 section 9.3.2) for photographs in explicit VR little endian, by hand."""
    context = b"\x01\0\0\0" + _item(0x30, VLPhotographicImageStorage) + _item(0x40, ExplicitVRLittleEndian)
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, "1.2.826.0.1.3680043.8.498.1")
    body = (
        struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
        + _item(0x10, "1.2.840.10008.3.1.1.1")
        + _item(0x20, context)
        + _item(0x50, user)
    )
    return struct.pack(">BBI", 1, 0, len(body)) + body


def _item(kind: int, value: str | bytes) -> bytes:
    encoded = value.encode("ascii") if isinstance(value, str) else value
    return struct.pack(">BBH", kind, 0, len(encoded)) + encoded
