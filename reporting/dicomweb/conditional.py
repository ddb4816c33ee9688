"""Entity tags and byte ranges (RFC 9110 sections 8.8.3, 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from reporting.dicomweb.problem import DicomwebError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

# Gives the bytes from a place on, so many.
Bytes = Callable[[int, int], Iterator[bytes]]


def etag(*parts: str) -> str:
    """A strong entity tag of what makes an answer what it is."""
    return '"' + "-".join(part.replace('"', "") for part in parts if part) + '"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the client has this already."""
    known = request.headers.get("if-none-match", "")
    return tag in {each.strip().removeprefix("W/") for each in known.split(",")} or known.strip() == "*"


def not_modified(tag: str) -> Response:
    """304."""
    return Response(status_code=304, headers={"ETag": tag})


def ranged(request: Request, size: int, content: Bytes, headers: Mapping[str, str]) -> Response:
    """Answer with bytes, or the part of them that is asked for.

    Args:
        request: Its Range counts when there is one range, and If-Range agrees.
        size: Of the whole.
        content: Gives bytes.
        headers: With ETag and Content-Type.

    Raises:
        DicomwebError: 416: the range is not in it.
    """
    made = {**headers, "Accept-Ranges": "bytes"}
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if match is None or request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        return StreamingResponse(content(0, size), headers={**made, "Content-Length": str(size)})
    first, last = match.groups()
    if not first and not last:
        raise _unsatisfiable(size)
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise _unsatisfiable(size)
    made |= {"Content-Range": f"bytes {start}-{end}/{size}", "Content-Length": str(end - start + 1)}
    return StreamingResponse(content(start, end - start + 1), status_code=206, headers=made)


def _unsatisfiable(size: int) -> DicomwebError:
    return DicomwebError(416, "the range is not in it", (("Content-Range", f"bytes */{size}"),))


def sliced(chunks: Iterator[bytes], start: int, length: int) -> Iterator[bytes]:
    """So many bytes of a stream, from a place on."""
    for chunk in chunks:
        if start >= len(chunk):
            start -= len(chunk)
            continue
        piece = chunk[start : start + length]
        start, length = 0, length - len(piece)
        yield piece
        if length <= 0:
            return
