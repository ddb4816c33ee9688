"""STOW-RS: instances come in, part by part, the way C-STORE brings them (DICOM PS3.18 section 10.5)."""

from __future__ import annotations

import re
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from reporting.dicomweb.call import Call, Intake, Stored
from reporting.dicomweb.media import DICOM
from reporting.dicomweb.problem import DicomwebError
from reporting.dicomweb.search import DICOM_JSON

_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*("[^"]*"|[^;\s]*)')
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")
_BUSY = range(0xA700, 0xA800)
_UNSUPPORTED_MEDIA = 0xC122  # of one part; as the SOP class is not supported in it


def is_stored(status: int) -> bool:
    """Whether a C-STORE status says that the instance is kept."""
    return status == 0 or status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF


class Parts:
    """Takes a multipart body apart as it arrives, and hands each part in.

    Args:
        call: The request.
        boundary: Between the parts.
    """

    def __init__(self, call: Call, boundary: str) -> None:
        self.stored: list[Stored] = []
        self._call = call
        self._intake: Intake | None = None
        self._name = self._value = b""
        self._content_type = DICOM
        self.is_ended = False
        self._parser = MultipartParser(
            boundary.encode("ascii"),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._value_part,
                "on_header_end": self._header,
                "on_headers_finished": self._open,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def write(self, chunk: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            DicomwebError: 400: it is not multipart.
        """
        try:
            self._parser.write(chunk)
        except MultipartParseError as exc:
            raise DicomwebError(400, "the body is not multipart as its Content-Type says") from exc

    def abandon(self) -> None:
        """Keep nothing of a part that is under way."""
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.abandon()

    def _begin(self) -> None:
        self._content_type = DICOM

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _value_part(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        if self._name.lower() == b"content-type":
            self._content_type = self._value.decode("latin-1").partition(";")[0].strip().lower()
        self._name = self._value = b""

    def _open(self) -> None:
        receive = self._call.service.receive
        if self._content_type != DICOM or receive is None:
            self.stored.append(_unread(_UNSUPPORTED_MEDIA, f"a part is {DICOM}"))
            return
        peer = self._call.request.client
        self._intake = receive(
            self._call.principal.client_id, peer.host if peer is not None else "", self._call.study
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._intake is not None:
            self._intake.write(data[start:end])

    def _end(self) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            self.stored.append(intake.finish())

    def _finish(self) -> None:
        self.is_ended = True


def _unread(status: int, comment: str) -> Stored:
    return Stored(
        status=status,
        comment=comment,
        sop_class_uid="",
        sop_instance_uid="",
        study_instance_uid="",
        series_instance_uid="",
    )


async def receive(call: Call) -> Response:
    """Take the request's instances in; the answer says what became of each.

    Raises:
        DicomwebError: 400, 415: the body is none; 404: nothing is taken in here.
    """
    if call.service.receive is None:
        raise DicomwebError(404, "this process takes nothing in")
    parts = Parts(call, _boundary(call.request))
    try:
        async for chunk in call.request.stream():
            if chunk:
                await run_in_threadpool(parts.write, chunk)
    except ClientDisconnect as exc:
        raise DicomwebError(400, "the request ended early") from exc
    finally:
        await run_in_threadpool(parts.abandon)
    if not parts.is_ended or not parts.stored:
        raise DicomwebError(400, "the body holds no whole part")
    call.studies.update(each.study_instance_uid for each in parts.stored if each.study_instance_uid)
    return _answer(call, parts.stored)


def _boundary(request: Request) -> str:
    content_type = request.headers.get("content-type", "")
    name = content_type.partition(";")[0].strip().lower()
    found = {key.lower(): value.strip('"') for key, value in _PARAMETER.findall(content_type)}
    if name != "multipart/related" or found.get("type", DICOM).lower() != DICOM:
        raise DicomwebError(415, f'the body is multipart/related; type="{DICOM}"')
    boundary = str(found.get("boundary", ""))
    if not _BOUNDARY.fullmatch(boundary):
        raise DicomwebError(400, "the Content-Type names no boundary")
    return boundary


def _answer(call: Call, stored: list[Stored]) -> Response:
    """The Store Instances Response Module (PS3.18 section I.2)."""
    kept = [each for each in stored if is_stored(each.status)]
    failed = [each for each in stored if not is_stored(each.status)]
    body: dict[str, Any] = {}
    studies = {each.study_instance_uid for each in kept}
    if len(studies) == 1:
        body["00081190"] = _value("UR", f"{call.service.base_url}/studies/{next(iter(studies))}")
    if kept:
        body["00081199"] = {"vr": "SQ", "Value": [_referenced(call, each) for each in kept]}
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": [_failed(each) for each in failed]}
    status, headers = (200 if not failed else 202), {}
    if not kept:
        busy = all(each.status in _BUSY for each in failed)
        status = 503 if busy else 409
        headers = {"Retry-After": "30"} if busy else {}
    response = JSONResponse(body, status_code=status, headers=headers)
    response.headers["Content-Type"] = DICOM_JSON
    return response


def _referenced(call: Call, each: Stored) -> dict[str, Any]:
    url = (
        f"{call.service.base_url}/studies/{each.study_instance_uid}/series/{each.series_instance_uid}"
        f"/instances/{each.sop_instance_uid}"
    )
    item = {
        "00081150": _value("UI", each.sop_class_uid),
        "00081155": _value("UI", each.sop_instance_uid),
        "00081190": _value("UR", url),
    }
    if each.status:
        item["00081196"] = _value("US", each.status)
    return item


def _failed(each: Stored) -> dict[str, Any]:
    return {
        "00081150": _value("UI", each.sop_class_uid),
        "00081155": _value("UI", each.sop_instance_uid),
        "00081197": _value("US", each.status),
        "00000902": _value("LO", each.comment[:64]),
    }


def _value(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}
