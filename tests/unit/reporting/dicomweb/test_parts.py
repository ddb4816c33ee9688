"""Media ranges, multipart bodies, byte ranges, windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from reporting.dicomweb.conditional import sliced
from reporting.dicomweb.media import Part, _body
from reporting.dicomweb.problem import DicomwebError
from reporting.dicomweb.window import window_of
from reporting.wire.accept import accepted


def test_media_ranges() -> None:
    found = accepted(
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80;q=0.3,'
        " multipart/related; type=application/octet-stream; transfer-syntax=*, text/html;q=0",
        [],
    )
    assert [(each.media_type, each.transfer_syntax, each.multipart) for each in found] == [
        ("application/octet-stream", "*", True),
        ("image/jls", "1.2.840.10008.1.2.4.80", True),
    ]


def test_the_parameter_comes_before_the_header() -> None:
    (found,) = accepted("text/html", ["image/png"])
    assert found.media_type == "image/png"
    assert not found.multipart


@pytest.mark.parametrize(
    ("header", "media_type", "taken"),
    [("", "image/png", True), ("image/*", "image/png", True), ("image/*", "text/html", False)],
)
def test_wildcards(header: str, media_type: str, taken: bool) -> None:
    (found,) = accepted(header, [])
    assert found.takes(media_type) is taken


def test_parts_are_made_as_they_are_sent() -> None:
    made = []

    def parts() -> Iterator[Part]:
        for number in range(3):
            made.append(number)
            yield Part(content_type="a/b", location=f"/{number}", chunks=(b"x", b"y"))

    body = _body(parts(), "B")
    assert next(body) == b"--B\r\nContent-Type: a/b\r\nContent-Location: /0\r\n\r\n"
    assert made == [0]
    assert b"".join(body).endswith(b"/2\r\n\r\nxy\r\n--B--\r\n")


@pytest.mark.parametrize(
    ("start", "length", "expected"), [(0, 9, b"abcdefghi"), (2, 3, b"cde"), (3, 3, b"def"), (8, 5, b"i")]
)
def test_slices(start: int, length: int, expected: bytes) -> None:
    assert b"".join(sliced(iter((b"abc", b"def", b"ghi")), start, length)) == expected


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("50,101,linear", [-0.5, 49.5, 99.5, 500], [0, 0.5, 1, 1]),
        ("50,100,linear-exact", [0, 50, 100], [0, 0.5, 1]),
        ("50,100,sigmoid", [50], [0.5]),
        ("50,101", [49.5], [0.5]),
    ],
)
def test_windows(text: str, values: list[float], expected: list[float]) -> None:
    assert np.allclose(window_of(text).apply(np.array(values, dtype=float)), expected)


@pytest.mark.parametrize("text", ["", "1", "a,b", "1,0", "1,nan", "1,2,3,4", "1,0.5,linear"])
def test_windows_that_are_none(text: str) -> None:
    with pytest.raises(DicomwebError):
        window_of(text)
