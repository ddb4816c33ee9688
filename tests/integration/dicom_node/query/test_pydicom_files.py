"""pydicom's own files through the node: every transfer syntax, photometric interpretation and character set.

Most are of other modalities: as they are sent they say to be Secondary Captures of studies of their own, and
everything else in them stays as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGLossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import STUDY_ROOT_FIND, STUDY_ROOT_GET
from dicom_node.readers import TRANSFER_SYNTAXES
from service.config import Settings
from service.database import instances
from service.database.pool import Pool, transaction
from service.stack.servers import EmbeddedPostgres
from service.storage.local import InstanceStore
from tests.conftest import cloned_database, settings_of
from tests.dicom_objects import associate, send_raw

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about its own files

_DATA = Path(pydicom.data.__file__).parent
_PIXELS = {"PixelData", "PhotometricInterpretation", "PlanarConfiguration"}  # what decoding may change
_RENAMED = {"SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"}
_NOT_ITS_SYNTAX = {"SC_rgb_jpeg.dcm"}  # implicit VR under a JPEG transfer syntax: nobody can send it
_ODD_VALUES = {"badVR.dcm"}  # numbers that are none
_PROGRESSIVE = "1.2.840.10008.1.2.4.55"
_NOT_DECODED = {"JPEG2000-embedded-sequence-delimiter.dcm"}  # so that nobody gets it uncompressed
# No picture to pydicom; the last two have 12 bits in JPEG Extended, which our own decoder reads.
_NO_PICTURE = {"MR_truncated.dcm", "badVR.dcm", "nested_priv_SQ.dcm", "JPEG-lossy.dcm", "JPGExtended.dcm"}


def _syntax(path: Path) -> str | None:
    if path.read_bytes()[128:132] != b"DICM":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, stop_before_pixels=True).file_meta.get("TransferSyntaxUID")


_PATHS = {
    path: _syntax(path)
    for folder in ("test_files", "charset_files")
    for path in sorted((_DATA / folder).glob("*.dcm"))
}
_TAKEN = [
    path
    for path, syntax in _PATHS.items()
    if syntax in TRANSFER_SYNTAXES and path.name not in _NOT_ITS_SYNTAX
]


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with cloned_database(postgres) as url:
        made = settings_of(url, tmp_path_factory.mktemp("files"))
        yield made.model_copy(update={"dicom_query_ae_titles": ("VIEWER",)})


def as_photograph(path: Path) -> Dataset:
    """A file of pydicom's as a Secondary Capture of a new study."""
    ds = dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    if not ds.get("PatientID"):
        ds.PatientID = "P1"
    return ds


def encoded(ds: Dataset) -> bytes:
    syntax = ds.file_meta.TransferSyntaxUID
    made = encode(ds, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    assert made is not None
    return made


def found(node: Node, study_instance_uid: str) -> Dataset:
    """What a query for a study says."""
    asked = Dataset()
    asked.SpecificCharacterSet = "ISO_IR 192"
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study_instance_uid
    asked.PatientName = asked.PatientID = ""
    entity = AE("VIEWER")
    entity.add_requested_context(STUDY_ROOT_FIND)
    association = entity.associate("127.0.0.1", node.port)
    (_, answer), (done, _) = association.send_c_find(asked, STUDY_ROOT_FIND)
    association.release()
    assert done.Status == 0x0000
    return answer  # type: ignore[return-value]


def got(node: Node, study_instance_uid: str) -> Dataset | None:
    """The one object of a study, uncompressed; None when it could not be sent so."""
    came: list[Dataset] = []

    def take(event: evt.Event) -> int:
        event.dataset.file_meta = event.file_meta
        came.append(event.dataset)
        return 0x0000

    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study_instance_uid
    entity = AE("VIEWER")
    entity.add_requested_context(STUDY_ROOT_GET)
    entity.add_requested_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
    association = entity.associate(
        "127.0.0.1",
        node.port,
        ext_neg=[build_role(SecondaryCaptureImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    *_, (done, _) = association.send_c_get(asked, STUDY_ROOT_GET)
    association.release()
    assert (done.Status == 0x0000) == bool(came)
    return came[0] if came else None


@pytest.mark.parametrize("path", _TAKEN, ids=lambda path: path.name)
def test_a_file_is_kept_as_it_came_found_by_its_name_and_sent_uncompressed(
    path: Path, node: Node, pool: Pool, store: InstanceStore
) -> None:
    ds = as_photograph(path)
    data_set = encoded(ds)
    assert send_raw(node.port, ds, data_set=data_set, transfer_syntax=ds.file_meta.TransferSyntaxUID) == 0
    with transaction(pool) as connection:
        kept = instances.by_uid(connection, ds.SOPInstanceUID)
    assert kept is not None
    assert store.read(kept.sha256).endswith(data_set)
    assert kept.patient_id == str(ds.PatientID).strip()
    answer = found(node, ds.StudyInstanceUID)
    assert answer.PatientID == str(ds.PatientID)
    assert str(answer.PatientName).rstrip("=^") == str(ds.get("PatientName", "")).rstrip("=^")
    retrieved = got(node, ds.StudyInstanceUID)
    assert (retrieved is None) == (path.name in _NOT_DECODED)
    if retrieved is None:
        return
    for element in () if path.name in _ODD_VALUES else as_photograph(path):
        if not (element.keyword in _PIXELS or element.tag.element == 0 or element.keyword in _RENAMED):
            assert retrieved[element.tag] == element, element.tag
    if "PixelData" in ds and path.name not in _NO_PICTURE:
        assert np.array_equal(pixel_array(retrieved), pixel_array(ds))


def test_they_are_of_every_transfer_syntax_that_is_taken() -> None:
    """But JPEG Lossless with other predictors and progressive JPEG, of which pydicom has no file."""
    assert {_PATHS[path] for path in _TAKEN} == {*TRANSFER_SYNTAXES} - {JPEGLossless, _PROGRESSIVE}


def test_what_is_big_endian_is_not_negotiated(node: Node) -> None:
    association = associate(node.port, (SecondaryCaptureImageStorage, ExplicitVRBigEndian))
    assert not association.accepted_contexts
