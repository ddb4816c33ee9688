"""Photographs with their headers damaged by type, through node, index, queries, retrieval and appraisal.

    python -m bench.senders --files 5000

Starts a PostgreSQL of its own and a node, and sends files in which one to three header elements were changed
as real senders change them: another VR, a wrong length, bytes of another character set, numbers that are
none, sequences of rubbish, strays, padding. Each is then asked for by C-FIND, QIDO-RS and WADO-RS, and
decoded as for an appraisal. After every fourth file comes a story of several objects
(``bench.parts.sender_stories``): a rejection note that is right, damaged, early or lifted, or two patients in
one study. The seed is printed. Ends with 1 when anything crashed, was left in a queue, was answered with a
status that asks for a retry or with a 5xx, or when a query finds what a story says it must not, or misses
something.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom.dsutils import encode
from starlette.routing import Mount

if not __package__:  # run as a file: its folder would hide the package fhir
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.parts.sender_stories import Expected, Stage, tell
from dicom_node.acceptor.scp import Node
from reporting.dicomweb.app import dicomweb_app
from reporting.holdings.database import holdings
from reporting.holdings.index import catch_up
from reporting.http.server import make_api
from reporting.source import default_zone, read_source
from service.appraisal.photograph.decode import photograph_from_bytes
from service.config import Settings
from service.database import instances
from service.database.migrate import migrate
from service.database.pool import Pool, open_pool, transaction
from service.errors import DecoderLostError, PhotographError, ResultError
from service.stack.servers import EmbeddedPostgres
from service.storage.local import InstanceStore, open_store
from tests.dicom_objects import photograph, send_raw

_SHORT = tuple(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_ALL = (*_SHORT, *b"OB OD OF OL OV OW SQ SV UC UN UR UT UV ZZ QQ".split(), b"??", b"  ", b"\0\0")
_KEPT = frozenset({0x00080016, 0x00080018, 0x0020000D, 0x0020000E})  # without these nothing is taken in
_TRANSIENT = range(0xA700, 0xA800)
_STORY_EVERY = 4
_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit)
_TEXTS = (
    b"M\xfcller", "Müller".encode(), "山田　太郎".encode(), b"\x1b$B;3ED\x1b(B", b"\x1b(Zx",
    b"\0\0ab", b"a\0b",
    b"\xff\xfe\xfd", b"1\\2\\3\\\\", b"-", b"99999999", b"1e400", b"NaN", b"19700231", b"x" * 70, b"y" * 3000,
    "a\u00a0b\u00ad\u202e".encode(), b"%s%00'\";--", b"^^^===", b"*?_%\\", b" " * 64, b"\r\n\t",
)  # fmt: skip
_RETRIEVALS = (
    ("", "application/dicom; transfer-syntax=*"),
    ("", f"multipart/related; type=application/dicom; transfer-syntax={ImplicitVRLittleEndian}"),
    ("/metadata", "application/dicom+json"),
    ("/rendered", "image/png"),
    ("/frames/1", "multipart/related; type=application/octet-stream"),
)
_CHARACTER_SETS = (
    b"ISO_IR 100", b"\0ISO_IR 100", b"ISO_IR\0 192", b"ISO_IR 192", b"NONE", b"idna", b"UTF-8", b"hex",
    b"ISO 2022 IR 6\\ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"GB18030\\ISO 2022 IR 58", b"latin-1",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Element:
    """One element of a data set, taken apart."""

    tag: int
    vr: bytes
    value: bytes

    def explicit(self) -> bytes:
        """As explicit VR has it; an unknown VR with the length its letters ask for."""
        head = struct.pack("<HH2s", self.tag >> 16, self.tag & 0xFFFF, self.vr)
        if self.vr in _SHORT or not (self.vr.isalpha() and self.vr.isupper()):
            return head + struct.pack("<H", len(self.value) & 0xFFFF) + self.value
        return head + struct.pack("<HI", 0, len(self.value)) + self.value

    def implicit(self) -> bytes:
        """As implicit VR has it."""
        return struct.pack("<HHI", self.tag >> 16, self.tag & 0xFFFF, len(self.value)) + self.value


@dataclass(kw_only=True)
class Tally:
    """What became of the files."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    decoded: collections.Counter[str] = field(default_factory=collections.Counter)
    web: collections.Counter[str] = field(default_factory=collections.Counter)
    stories: collections.Counter[str] = field(default_factory=collections.Counter)
    expected: list[Expected] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def elements(syntax: str, number: int) -> tuple[Dataset, list[Element], bytes]:
    """A photograph as a list of header elements, and its encoded pixel data."""
    ds = photograph(
        transfer_syntax=ExplicitVRLittleEndian, size=(24, 32), seed=number, patient_id=f"P{number}"
    )
    ds.PatientBirthDate, ds.PatientSex, ds.StudyDescription = "19700101", "F", "Clinic"
    ds.Manufacturer, ds.SeriesDescription, ds.ImageType = "Cam", "Face", ["ORIGINAL", "PRIMARY"]
    ds.PatientOrientation, ds.LossyImageCompression = ["L", "F"], "00"
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "89545001", "SCT", "Face"
    ds.AnatomicRegionSequence = [item]
    ds.SpecificCharacterSet = "ISO_IR 192"
    found = []
    for each in ds:
        if each.tag == 0x7FE00010:
            continue
        alone = Dataset()
        alone.add(each)
        encoded = encode(alone, False, True) or b""
        vr = encoded[4:6]
        found.append(Element(tag=int(each.tag), vr=vr, value=encoded[8 if vr in _SHORT else 12 :]))
    pixels = bytes(ds.PixelData)
    if syntax == JPEGBaseline8Bit:
        out = BytesIO()
        Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(24, 32, 3)).save(out, "JPEG")
        frames = encapsulate([out.getvalue()])
        return ds, found, struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + frames + _SEQUENCE_END
    pixel_element = Element(tag=0x7FE00010, vr=b"OB", value=pixels)
    return (
        ds,
        found,
        pixel_element.implicit() if syntax == ImplicitVRLittleEndian else pixel_element.explicit(),
    )


_SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def changed(element: Element, rng: np.random.Generator) -> Element:
    """One element as a sender gets it wrong."""
    kind = int(rng.integers(7))
    vr, value = element.vr, element.value
    if element.tag == 0x00080005:
        value = _CHARACTER_SETS[rng.integers(len(_CHARACTER_SETS))]
    elif kind == 0:
        vr = _ALL[rng.integers(len(_ALL))]
    elif kind == 1:
        value = value[: rng.integers(len(value) + 1)]
    elif kind == 2:
        value = value + rng.bytes(int(rng.integers(1, 9)))
    elif kind == 3:
        value = _TEXTS[rng.integers(len(_TEXTS))]
    elif kind == 4:
        value = rng.bytes(int(rng.integers(0, 40)))
    elif kind == 5:
        value = b""
    else:
        vr, value = b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, int(rng.integers(20))) + rng.bytes(10)
    return Element(tag=element.tag, vr=vr, value=value)


def damaged(number: int, seed: int) -> tuple[Dataset, str, bytes]:
    """One file: the photograph it was, its transfer syntax, its data set."""
    rng = np.random.default_rng((seed, number))
    syntax = _SYNTAXES[number % len(_SYNTAXES)]
    ds, header, pixels = elements(syntax, number)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(header)))
        if header[at].tag not in _KEPT:
            header[at] = changed(header[at], rng)
    if rng.random() < 0.1:
        tags = (0x00020010, 0x00091001, 0x00189219, 0x0020000C, 0x60003000)
        strange = Element(
            tag=tags[rng.integers(len(tags))], vr=_ALL[rng.integers(len(_ALL))], value=rng.bytes(6)
        )
        header.insert(int(rng.integers(len(header))), strange)
    data_set = b"".join(
        each.implicit() if syntax == ImplicitVRLittleEndian else each.explicit() for each in header
    )
    ends = (b"", b"", b"", b"\0" * 64, struct.pack("<HHI", 0xFFFE, 0xE00D, 0))
    return ds, str(syntax), data_set + pixels + ends[rng.integers(len(ends))]


@contextmanager
def running(directory: Path) -> Iterator[tuple[Settings, Pool, InstanceStore, Node]]:
    """A database, a store and a node of this run's own."""
    server = EmbeddedPostgres(directory / "pg")
    server.start()
    try:
        url = server.ensure_database("senders")
        migrate(url)
        settings = Settings(
            database_url=url,
            broker_url="memory://",
            storage_dir=directory / "store",
            storage_low_watermark_bytes=0,
            dicom_host="127.0.0.1",
            dicom_port=0,
            api_port=8080,
            dicom_query_ae_titles=("CAMERA",),
        )
        with open_pool(settings) as pool:
            store = open_store(settings)
            node = Node(settings, pool, store)
            try:
                yield settings, pool, store, node
            finally:
                node.stop()
    finally:
        server.stop()


def send_all(stage: Stage, files: int, seed: int, tally: Tally) -> list[str]:
    """Send every file, and tell stories between; answers the UIDs of files that were taken."""
    taken = []
    for number in range(files):
        ds, syntax, data_set = damaged(number, seed)
        status = send_raw(stage.node.port, ds, data_set=data_set, transfer_syntax=syntax)
        tally.statuses["no answer" if status is None else f"0x{status:04X}"] += 1
        judge_status(number, status, tally)
        if status == 0:
            taken.append(str(ds.SOPInstanceUID))
        if number % _STORY_EVERY == 0:
            told = tell(stage, number, seed)
            tally.stories[told.name] += 1
            tally.expected += told.expected
            tally.faults += [f"story {number}: {each}" for each in told.faults]
            for each in told.statuses:
                judge_status(number, each, tally)
    return taken


def judge_status(number: int, status: int | None, tally: Tally) -> None:
    """Take no answer, and one that asks for a retry or that nobody foresaw, for a fault."""
    if status is None or status in _TRANSIENT or status == 0xC002:
        tally.faults.append(f"file {number}: status {status}")


def ask_all(app: Mount, uids: list[str], tally: Tally) -> None:
    """Search and retrieve everything over DICOMweb."""

    async def asked() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            for each in tally.expected:
                answer = await client.get(f"/dicom-web/instances?{each.query}")
                tally.web[f"QIDO {answer.status_code}"] += 1
                # 204: nothing is found
                listed = answer.json() if answer.status_code == 200 else []
                if {one["00080018"]["Value"][0] for one in listed} != each.found:
                    tally.faults.append(f"{each.query}: {answer.status_code}, {len(listed)} found")
            for uid in uids:
                found = await client.get(f"/dicom-web/instances?SOPInstanceUID={uid}&includefield=all")
                tally.web[f"QIDO {found.status_code}"] += 1
                if found.status_code != 200:
                    tally.faults.append(f"{uid}: QIDO {found.status_code}")
                    continue
                place = found.json()[0]["00081190"]["Value"][0].partition("/dicom-web")[2]
                for path, accept in _RETRIEVALS:
                    answer = await client.get(f"/dicom-web{place}{path}", headers={"accept": accept})
                    tally.web[f"WADO {answer.status_code}"] += 1
                    if answer.status_code >= 500:
                        tally.faults.append(f"{uid}: WADO{path} {answer.status_code}")

    asyncio.run(asked())


def read_all(pool: Pool, store: InstanceStore, uids: list[str], tally: Tally) -> None:
    """Read every header as the reports do, and decode every photograph as the appraisal does."""
    zone = default_zone("UTC")
    for uid in uids:
        with transaction(pool) as connection:
            instance = instances.by_uid(connection, uid)
        if instance is None:
            tally.faults.append(f"{uid}: taken and not there")
            continue
        data = store.read(instance.sha256)
        try:
            source = read_source(data, zone)
            if source.identity.patient_id != instance.patient_id:
                tally.faults.append(f"{uid}: intake and report read another Patient ID")
        except ResultError as exc:
            tally.faults.append(f"{uid}: cannot be reported: {exc}")
        try:
            photograph_from_bytes(data)
            tally.decoded["decoded"] += 1
        except (PhotographError, DecoderLostError) as exc:
            tally.decoded[type(exc).__name__] += 1


def fuzz(directory: Path, files: int, seed: int) -> Tally:
    """Send so many damaged files to a node of its own, and ask for all that was taken."""
    tally = Tally()
    with running(directory) as (settings, pool, store, node):
        uids = send_all(Stage(node=node, settings=settings, pool=pool), files, seed, tally)
        if not catch_up(pool, store, 600.0):
            tally.faults.append("the index does not catch up")
        with transaction(pool) as connection:
            if resting := [each for each in holdings.unindexed(connection, files) if not each.is_found]:
                tally.faults.append(f"{len(resting)} rest outside of the index: {resting[0].reason}")
        api = make_api(settings)
        try:
            ask_all(dicomweb_app(api), uids, tally)
        finally:
            api.close()
        read_all(pool, store, uids, tally)
    return tally


def main() -> int:
    """Run; 1 when there was a fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tally = fuzz(Path(directory), options.files, options.seed)
    print(f"{options.files} files, seed {options.seed}, {time.monotonic() - begun:.0f} s")
    for name in ("statuses", "stories", "decoded", "web"):
        counted = sorted(getattr(tally, name).items())
        print(f"{name:9s} " + ", ".join(f"{what}: {count}" for what, count in counted))
    for fault in tally.faults[:50]:
        print(fault)
    print(f"faults    {len(tally.faults)}")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
