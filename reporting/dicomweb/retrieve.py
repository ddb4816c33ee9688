"""WADO-RS: instances, metadata, bulk data and frames (DICOM PS3.18 section 10.4)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import structlog
from pydicom.encaps import get_frame
from pydicom.uid import UID, ExplicitVRLittleEndian, ParametricMapStorage
from starlette.responses import Response, StreamingResponse

from reporting.dicomweb.call import Call
from reporting.dicomweb.conditional import etag, is_known, not_modified, ranged, sliced
from reporting.dicomweb.media import DICOM, FRAME_TYPES, MADE_FOR, OCTETS, Part, begun, frame_type, multipart
from reporting.dicomweb.numbers import whole_number
from reporting.dicomweb.pixels import native_frame
from reporting.dicomweb.problem import DicomwebError, not_acceptable, not_found
from reporting.dicomweb.search import served_json
from reporting.holdings.database import holdings
from reporting.holdings.database.holding_records import HeldInstance
from reporting.holdings.dicom_json import with_bulk_data_at
from reporting.holdings.instance_file import InstanceFile
from reporting.holdings.recoding import TARGETS, recoded_data_set
from reporting.wire.accept import Accepted
from service.database.pool import transaction
from service.errors import InstanceNotStoredError, RecordNotFoundError, ResultError, StorageError

_log = structlog.get_logger(__name__)

_METADATA_PAGE = 100
_PIECE_BYTES = 1 << 18
_MOST_FRAMES = 10_000  # listed in one path
_PLACE = re.compile(r"[0-9A-Fa-f]{8}(/\d{1,6}/[0-9A-Fa-f]{8})*", re.ASCII)


def instances(call: Call) -> Response:
    """Retrieve every instance the path names, as application/dicom."""
    found = call.held()
    for each in call.accepted():
        wanted = _instance_syntax(each)
        if wanted is None or not _can_be_sent(found, wanted):
            continue
        if not each.multipart and each.media_type == DICOM and call.instance:
            return _single(call, found[0], wanted)
        if each.multipart or each.media_type == "*/*":
            tag = etag(wanted, *(instance.sha256[:16] for instance in found[:8]), str(len(found)))
            if is_known(call.request, tag):
                return not_modified(tag)
            kept = [instance for instance in found if call.service.api.store.contains(instance.sha256)]
            if lost := len(found) - len(kept):
                _log.error("dicomweb.instances_lost", study_instance_uid=call.study, instances=lost)
            response = multipart(begun(_instance_parts(call, kept or found, wanted)), DICOM, {"ETag": tag})
            if lost:
                response.status_code = 206
                response.headers["Warning"] = f'299 {call.service.base_url}: "{lost} instances are missing"'
            return response
    raise not_acceptable(f'multipart/related; type="{DICOM}"; transfer-syntax=*')


def _instance_syntax(each: Accepted) -> str | None:
    """Transfer syntax a media range asks for: a UID or ``*``; None when it is not one of ours."""
    if not each.takes(DICOM):
        return None
    if each.media_type == "*/*" and not each.transfer_syntax:
        return "*"  # no wish: as stored
    return each.transfer_syntax or ExplicitVRLittleEndian


def _can_be_sent(found: Iterable[HeldInstance], wanted: str) -> bool:
    """Whether a transfer syntax can be made of all instances, unless their pixels are damaged."""
    return wanted in ("*", *TARGETS) or all(each.transfer_syntax_uid == wanted for each in found)


def _encoded(call: Call, instance: HeldInstance, wanted: str) -> tuple[str, BinaryIO | None]:
    """Transfer syntax an instance is sent in, and a file of it if it is not that in the store.

    Raises:
        DicomwebError: 406: it cannot be sent so.
        InstanceNotStoredError: Its bytes are gone.
    """
    if not call.service.api.store.contains(instance.sha256):
        raise InstanceNotStoredError(instance.sha256)
    if wanted != "*" and UID(wanted).is_encapsulated and not _is_compressible(instance):
        wanted = ExplicitVRLittleEndian
    if wanted in ("*", instance.transfer_syntax_uid):
        return instance.transfer_syntax_uid, None
    try:
        return wanted, call.service.recoder.recoded(instance.sha256, UID(wanted))
    except ResultError as exc:
        raise DicomwebError(406, str(exc)) from exc


def _is_compressible(instance: HeldInstance) -> bool:
    """Whether it holds pixels that compressed transfer syntaxes can encode: not a report, not floats."""
    return bool(instance.number_of_frames) and instance.sop_class_uid != ParametricMapStorage


def _instance_parts(call: Call, found: Iterable[HeldInstance], wanted: str) -> Iterator[Part]:
    failed: Exception | None = None
    sent = 0
    for instance in found:
        try:
            syntax, made = _encoded(call, instance, wanted)
        except (DicomwebError, StorageError) as exc:  # the others arrive all the same
            failed = exc
            _log.warning(
                "not-retrieved", sop_instance_uid=instance.sop_instance_uid, error=type(exc).__name__
            )
            continue
        sent += 1
        try:
            yield Part(
                content_type=f"{DICOM}; transfer-syntax={syntax}",
                location=call.service.instance_url(instance),
                chunks=_pieces(made) if made is not None else _stored(call, instance),
            )
        finally:
            if made is not None:
                made.close()
    if failed is not None and not sent:
        raise failed


def _stored(call: Call, instance: HeldInstance) -> Iterator[bytes]:
    with InstanceFile(call.service.api.store, instance.sha256) as file:
        yield from file.chunks()


def _pieces(made: BinaryIO) -> Iterator[bytes]:
    with made:
        while piece := made.read(_PIECE_BYTES):
            yield piece


def _single(call: Call, instance: HeldInstance, wanted: str) -> Response:
    tag = etag(instance.sha256, wanted)
    if is_known(call.request, tag):
        return not_modified(tag)
    syntax, made = _encoded(call, instance, wanted)
    headers = {"Content-Type": f"{DICOM}; transfer-syntax={syntax}", "ETag": tag}
    if made is None:
        return ranged(
            call.request,
            instance.size_bytes,
            lambda start, length: sliced(_stored(call, instance), start, length),
            headers,
        )
    try:
        size = made.seek(0, os.SEEK_END)
        made.seek(0)
        return ranged(call.request, size, lambda start, length: sliced(_pieces(made), start, length), headers)
    except DicomwebError:
        made.close()
        raise


def metadata(call: Call) -> Response:
    """Retrieve the headers of every instance the path names."""
    content_type = served_json(call)
    found = call.held()
    tag = etag("metadata", *(instance.sha256[:16] for instance in found[:8]), str(len(found)))
    if is_known(call.request, tag):
        return not_modified(tag)
    return StreamingResponse(_headers(call, found), headers={"Content-Type": content_type, "ETag": tag})


def _headers(call: Call, found: list[HeldInstance]) -> Iterator[bytes]:
    yield b"["
    for start in range(0, len(found), _METADATA_PAGE):
        page = found[start : start + _METADATA_PAGE]
        with transaction(call.service.api.pool) as connection:
            read = holdings.headers(connection, [each.sop_instance_uid for each in page])
        for number, instance in enumerate(page, start=start):
            header = dict(read[instance.sop_instance_uid])
            header["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax_uid]}
            if "00080005" in header:
                header["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
            placed = with_bulk_data_at(header, f"{call.service.instance_url(instance)}/bulkdata/")
            comma = "," if number else ""
            yield (comma + json.dumps(placed, ensure_ascii=False, separators=(",", ":"))).encode()
    yield b"]"


def bulk_data(call: Call) -> Response:
    """Retrieve one value that the metadata name by URI."""
    place = str(call.request.path_params["place"])
    if not _PLACE.fullmatch(place):
        raise DicomwebError(400, "a place is TAG or TAG/ITEM/TAG")
    (instance,) = call.held()
    segments = place.split("/")
    keys = tuple(int(text, 16) if i % 2 == 0 else text for i, text in enumerate(segments))
    tag = etag(instance.sha256, place.replace("/", "."))
    if is_known(call.request, tag):
        return not_modified(tag)
    wants = [
        each for each in call.accepted() if each.takes(OCTETS) or each.media_type in FRAME_TYPES.values()
    ]
    if not wants:
        raise not_acceptable(OCTETS)
    file = InstanceFile(call.service.api.store, instance.sha256)
    with file:
        if file.pixels is not None and keys == (file.pixels.tag,) and file.pixels.length is None:
            return frames(call, range(1, file.number_of_frames + 1))
        try:
            size, _ = file.value_chunks(keys)
        except RecordNotFoundError as exc:
            raise not_found("the value") from exc
    if wants[0].multipart:
        part = Part(content_type=OCTETS, location=str(call.request.url), chunks=_value(call, instance, keys))
        return multipart([part], OCTETS, {"ETag": tag})
    return ranged(
        call.request,
        size,
        lambda start, length: sliced(_value(call, instance, keys), start, length),
        {"Content-Type": OCTETS, "ETag": tag},
    )


def _value(call: Call, instance: HeldInstance, keys: tuple[int | str, ...]) -> Iterator[bytes]:
    with InstanceFile(call.service.api.store, instance.sha256) as file:
        yield from file.value_chunks(keys)[1]


def listed_frames(call: Call) -> Response:
    """Retrieve the frames the path lists."""
    return frames(call, frame_numbers(call))


def frame_numbers(call: Call) -> list[int]:
    """Frame numbers of the path.

    Raises:
        DicomwebError: 400.
    """
    texts = str(call.request.path_params["frames"]).split(",")
    if len(texts) > _MOST_FRAMES:
        raise DicomwebError(400, f"at most {_MOST_FRAMES} frames are asked for at once")
    return [whole_number(text, "a frame", least=1) for text in texts]


def frames(call: Call, numbers: Iterable[int]) -> Response:
    """Retrieve frames: compressed as they are stored, or in what is accepted."""
    (instance,) = call.held()
    numbers = list(numbers)
    if not instance.number_of_frames or max(numbers) > instance.number_of_frames:
        raise not_found("the frame")
    stored = instance.transfer_syntax_uid
    for each in call.accepted():
        chosen = _frame_syntax(each, stored)
        if chosen is None:
            continue
        media_type, syntax = chosen
        tag = etag(instance.sha256, syntax, media_type.replace("/", "."), *map(str, numbers))
        if is_known(call.request, tag):
            return not_modified(tag)
        content_type = f"{media_type}; transfer-syntax={syntax}"
        if not each.multipart and each.media_type not in ("*/*", "image/*"):
            if len(numbers) > 1:
                continue
            ((_, content),) = _frames(call, instance, syntax, numbers)
            return Response(content, headers={"Content-Type": content_type, "ETag": tag})
        parts = _frames(call, instance, syntax, numbers)
        return multipart(
            (
                Part(
                    content_type=content_type,
                    location=f"{call.service.instance_url(instance)}/frames/{number}",
                    chunks=(content,),
                )
                for number, content in begun(parts)
            ),
            media_type,
            {"ETag": tag},
        )
    raise not_acceptable(f'multipart/related; type="{frame_type(stored)}", or type="{OCTETS}"')


def _frame_syntax(each: Accepted, stored: str) -> tuple[str, str] | None:
    """Media type and transfer syntax to send frames in for a media range; None for none."""
    own, wanted = frame_type(stored), each.transfer_syntax
    if each.takes(own) and wanted in ("", "*", stored) and not (own == OCTETS and wanted == ""):
        return own, stored
    if each.takes(OCTETS) and wanted in ("*", stored):
        return OCTETS, stored if stored in FRAME_TYPES else ExplicitVRLittleEndian
    for media_type, syntax in MADE_FOR.items():
        if each.takes(media_type) and wanted in ("", syntax):
            return media_type, syntax
    return None


def _frames(
    call: Call, instance: HeldInstance, syntax: str, numbers: list[int]
) -> Iterator[tuple[int, bytes]]:
    with InstanceFile(call.service.api.store, instance.sha256) as file:
        compressed = file.pixels is not None and file.pixels.length is None
        if syntax == instance.transfer_syntax_uid or (not compressed and syntax == ExplicitVRLittleEndian):
            for number in numbers:
                yield number, file.frame(number)
        elif syntax == ExplicitVRLittleEndian:
            for number in numbers:
                with call.service.recoder.turn():
                    native = native_frame(file, number)
                yield number, native
        else:
            yield from _recoded_frames(call, file, UID(syntax), numbers)


def _recoded_frames(
    call: Call, file: InstanceFile, syntax: UID, numbers: list[int]
) -> Iterator[tuple[int, bytes]]:
    try:
        with call.service.recoder.turn():
            made = recoded_data_set(file.whole(), syntax)
    except ResultError as exc:
        raise DicomwebError(406, str(exc)) from exc
    for number in numbers:
        yield number, get_frame(made.PixelData, number - 1, number_of_frames=file.number_of_frames)
