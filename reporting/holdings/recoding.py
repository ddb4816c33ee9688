"""Instances in another transfer syntax, under their own UID: the pixels stay the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from io import BytesIO
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
import structlog
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from reporting.holdings.frames import decoded_frames
from reporting.holdings.instance_file import InstanceFile
from service.dicom.part10 import READ_ERRORS
from service.dicom.writing import keep_malformed_as_bytes
from service.errors import DecoderLostError, PhotographError, ResultError, StorageError
from service.storage.local import InstanceStore

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
# What can be made of any instance; nothing is ever compressed with loss. Encoder, by pydicom's name.
_ENCODERS: Mapping[UID, str] = MappingProxyType(
    {JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg", RLELossless: "pydicom"}
)
TARGETS = (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian, *_ENCODERS)
MOST_DECODED_BYTES = 1 << 30  # of all frames of an instance together
_AT_ONCE = 1
_SIGN_EVERY_S = 10.0  # dcmtk gives up after a minute of silence
_CODEC_ERRORS = (*READ_ERRORS, ArithmeticError, RuntimeError, SyntaxError)
_log = structlog.get_logger(__name__)


def recode(ds: FileDataset, target: UID, to: BinaryIO) -> None:
    """Write the Part 10 file of an instance in another transfer syntax.

    Args:
        ds: Whole; it is changed.
        target: One of TARGETS.
        to: Where to write.

    Raises:
        ResultError: The pixels cannot be decoded, or not be encoded so.
    """
    current = UID(str(ds.file_meta.TransferSyntaxUID))
    if target not in TARGETS:
        raise ResultError(f"nothing is recoded to {target.name}")
    try:
        if "PixelData" in ds and current.is_encapsulated:
            _decompress(ds)
        if "PixelData" not in ds and target.is_encapsulated:
            raise ResultError(f"without integer pixel data there is nothing to encode as {target.name}")
        if target.is_encapsulated:
            ds.compress(target, encoding_plugin=_ENCODERS[target], generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = target
        if ds.original_encoding != (target.is_implicit_VR, True) and (turned := keep_malformed_as_bytes(ds)):
            _log.warning("kept-as-bytes", sop_instance_uid=str(ds.get("SOPInstanceUID", "")), tags=turned)
        ds.save_as(to, implicit_vr=target.is_implicit_VR, little_endian=True)
    except (PhotographError, DecoderLostError, *_CODEC_ERRORS) as exc:
        raise ResultError(f"cannot be recoded from {current.name} to {target.name}: {exc}") from exc


def _decompress(ds: FileDataset) -> None:
    """Put native pixel data in place of compressed ones.

    Raises:
        ResultError: More than is recoded.
        PhotographError, DecoderLostError and others: See ``decoded_frames``.
    """
    count = int(ds.get("NumberOfFrames") or 1)
    frame_bytes = int(ds.Rows) * int(ds.Columns) * int(ds.SamplesPerPixel) * (int(ds.BitsAllocated) // 8)
    if frame_bytes * count > MOST_DECODED_BYTES:
        raise ResultError(f"{count} frames of {frame_bytes} bytes are too much to be recoded")
    frames, colours = bytearray(), ""
    wanted = np.dtype(f"u{max(1, int(ds.BitsAllocated) // 8)}")
    for pixels, photometric in decoded_frames(ds):
        colours = photometric
        if pixels.shape[:2] == (ds.Columns, ds.Rows):  # the data set has them exchanged
            ds.Rows, ds.Columns = pixels.shape[:2]
        ds.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]  # by its own word, if a JPEG
        frames += pixels.astype(wanted, copy=False).tobytes()
    frame_bytes = int(ds.Rows) * int(ds.Columns) * int(ds.SamplesPerPixel) * (int(ds.BitsAllocated) // 8)
    if len(frames) != frame_bytes * count:
        raise ResultError(f"{count} frames are announced, and not all are there")
    ds.PixelData = bytes(frames) + b"\0" * (len(frames) % 2)
    ds["PixelData"].is_undefined_length = False
    ds["PixelData"].VR = "OB" if ds.BitsAllocated <= 8 else "OW"
    ds.PhotometricInterpretation = colours
    if ds.SamplesPerPixel > 1:
        ds.PlanarConfiguration = 0
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def recoded_data_set(ds: FileDataset, target: UID) -> FileDataset:
    """An instance in another transfer syntax, in memory; arguments as of ``recode``.

    Raises:
        ResultError: See ``recode``.
    """
    made = BytesIO()
    recode(ds, target, made)
    made.seek(0)
    return dcmread(made)


class Recoder:
    """Recodes instances of a store into temporary files, few at a time; for the threads of a process.

    Pixels are decoded in memory: a large JPEG takes ten times its decoded size while its turn lasts (12
    megapixels: 400 MB), so that turns, not callers, decide what a process needs.
    """

    def __init__(
        self, store: InstanceStore, at_once: int = _AT_ONCE, *, sign_every_s: float = _SIGN_EVERY_S
    ) -> None:
        """Nothing is held.

        Args:
            store: Holds the bytes.
            at_once: Instances whose turn it is.
            sign_every_s: Time between two signs of life to who waits.
        """
        self._store = store
        self._sign_every_s = sign_every_s
        self._turns = threading.BoundedSemaphore(at_once)
        # Always the same threads: each keeps for itself what malloc has freed.
        self._threads = ThreadPoolExecutor(at_once, "recode")

    @contextmanager
    def turn(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait for a turn to decode pixels.

        Args:
            waiting: Called now and then while waiting, so that who asked may be given a sign of life.
        """
        while not self._turns.acquire(timeout=self._sign_every_s):
            waiting()
        try:
            yield
        finally:
            self._turns.release()

    def recoded(self, sha256: str, target: UID, waiting: Callable[[], None] = lambda: None) -> BinaryIO:
        """The Part 10 file of an instance in another transfer syntax, to be closed by the caller.

        Args:
            sha256: Of the instance.
            target: One of TARGETS.
            waiting: Called now and then, by this thread, until the file is there.

        Raises:
            ResultError: See ``recode``.
            StorageError: The instance's bytes are gone or wrong, or the temporary file was not taken.
        """
        with self.turn(waiting):
            self._store.verify(sha256)
            try:
                made = TemporaryFile()  # noqa: SIM115 -- the caller's to close
            except OSError as exc:
                raise StorageError(f"no temporary file: {exc}") from exc
            try:
                task = self._threads.submit(self._write, sha256, target, made)
                try:
                    while not wait((task,), self._sign_every_s).done:
                        waiting()
                finally:
                    wait((task,))  # it writes to the file
                task.result()
                made.seek(0)
            except BaseException:
                made.close()
                raise
            return made

    def _write(self, sha256: str, target: UID, to: BinaryIO) -> None:
        with InstanceFile(self._store, sha256) as file:
            recode(file.whole(), target, to)
