"""Sending to DICOMweb: one result object to one server by STOW-RS (DICOM PS3.18 section 10.5)."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from uuid import uuid4

import httpx
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.admission.security import client_context
from dicom_node.delivery.location import without_location
from dicom_node.delivery.scu import Sent
from dicom_node.encoding.statuses import StatusClass, status_class
from service.config import Settings
from service.errors import (
    ConfigurationError,
    DestinationBusyError,
    DestinationUnreachableError,
    ResultError,
    ResultNotAcceptedError,
)
from service.peers import Destination

_DICOM = "application/dicom"
_DICOM_JSON = "application/dicom+json"
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFERENCED, _FAILED = "00081199", "00081198"
_INSTANCE, _FAILURE, _WARNING = "00081155", "00081197", "00081196"
_FAILURE_UNKNOWN = 0x0110


def stow(content: bytes, destination: Destination, settings: Settings) -> Sent:
    """Store one Part 10 object at a DICOMweb server.

    Args:
        content: The file, preamble and all.
        destination: Of kind ``dicomweb``.
        settings: The time-out, and our certificates for TLS.

    Returns:
        What the server answered, a success or a warning.

    Raises:
        DestinationUnreachableError: No connection, or it broke before the answer.
        DestinationBusyError: A failure that may pass.
        ResultNotAcceptedError: A failure that stays.
        ResultError: The content is not a DICOM object.
        ConfigurationError: The token's or a certificate's file cannot be read.
    """
    if destination.strip_location:
        content = without_location(content)
    try:
        header = dcmread(BytesIO(content), stop_before_pixels=True)
    except (InvalidDicomError, EOFError) as exc:
        raise ResultError(f"not a DICOM object: {exc}") from exc
    syntax, uid = str(header.file_meta.TransferSyntaxUID), str(header.SOPInstanceUID)
    response = _post(content, syntax, destination, settings)
    status, comment = _outcome(response, uid, destination)
    if status_class(status) in (StatusClass.SUCCESS, StatusClass.WARNING):
        return Sent(status=status, comment=comment, transfer_syntax_uid=syntax)
    busy = status_class(status) is StatusClass.TRANSIENT
    kind = DestinationBusyError if busy else ResultNotAcceptedError
    raise kind(f"{destination.name} answered 0x{status:04X} {comment}".rstrip())


def _post(content: bytes, syntax: str, destination: Destination, settings: Settings) -> httpx.Response:
    boundary = uuid4().hex
    head = f"--{boundary}\r\nContent-Type: {_DICOM}; transfer-syntax={syntax}\r\n\r\n".encode("ascii")
    headers = {
        "Content-Type": f'multipart/related; type="{_DICOM}"; boundary={boundary}',
        "Accept": _DICOM_JSON,
        **_authorization(destination),
    }
    verify = client_context(settings) if destination.url.startswith("https") else True
    try:
        with httpx.Client(timeout=settings.delivery_timeout_s, verify=verify) as client:
            return client.post(
                f"{destination.url.rstrip('/')}/studies",
                content=head + content + f"\r\n--{boundary}--\r\n".encode("ascii"),
                headers=headers,
            )
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise DestinationUnreachableError(f"{destination.name}: {type(exc).__name__}: {exc}") from exc


def _authorization(destination: Destination) -> dict[str, str]:
    if destination.token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {destination.token_file.read_text(encoding='ascii').strip()}"}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"destination {destination.name!r}: token_file: {exc}") from exc


def _outcome(response: httpx.Response, uid: str, destination: Destination) -> tuple[int, str]:
    """Status and comment of the object, as of C-STORE.

    Raises:
        DestinationBusyError: The server says it may take it later, or fails.
        ResultNotAcceptedError: It does not take it, and does not say why in DICOM's terms.
    """
    listed = _body(response)
    for item in listed.get(_FAILED, {}).get("Value", ()):
        if _first(item, _INSTANCE, uid) == uid:
            return int(_first(item, _FAILURE, _FAILURE_UNKNOWN)), f"HTTP {response.status_code}"
    if response.status_code in _BUSY:
        raise DestinationBusyError(f"{destination.name} answered HTTP {response.status_code}")
    if response.is_error or response.is_redirect:
        raise ResultNotAcceptedError(f"{destination.name} answered HTTP {response.status_code}")
    for item in listed.get(_REFERENCED, {}).get("Value", ()):
        if _first(item, _INSTANCE, "") == uid:
            return int(_first(item, _WARNING, 0)), f"HTTP {response.status_code}"
    if listed:
        raise DestinationBusyError(f"{destination.name} does not say what became of the object")
    return 0, f"HTTP {response.status_code}"


def _body(response: httpx.Response) -> dict[str, Any]:
    if "json" not in response.headers.get("content-type", ""):
        return {}
    try:
        parsed = json.loads(response.content)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _first(item: dict[str, Any], tag: str, otherwise: object) -> Any:
    values = item.get(tag, {}).get("Value") or [otherwise]
    return values[0]
