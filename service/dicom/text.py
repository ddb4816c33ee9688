"""Texts in the character set a data set declares, and in that it is rather in (DICOM PS3.5 section 6.1)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Sequence

from pydicom.charset import (
    CODES_TO_ENCODINGS,
    STAND_ALONE_ENCODINGS,
    default_encoding,
    handled_encodings,
    python_encoding,
)

# Each resets a code extension, PS3.5 section 6.1.2.5.3.
DELIMITERS = frozenset(ord(c) for c in "\r\n\t\f\\^=")
_FRAGMENTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_C1 = re.compile(rb"[\x80-\x9f]")  # no characters of ISO 8859-1, and letters of Windows-1252
_LATIN_1 = frozenset({default_encoding, python_encoding["ISO_IR 100"]})
_SINGLE = re.compile(r"ISO[^0-9A-Z]?IR[^0-9A-Z]?(\d+)")
_EXTENSION = re.compile(r"ISO[^0-9A-Z]?2022[^0-9A-Z]?IR[^0-9A-Z]?(\d+)")


def character_sets(declared: bytes | str) -> tuple[str, ...]:
    """The defined terms of Specific Character Set that a value means, misspelt as it may be.

    Args:
        declared: The value, with all its values.

    Returns:
        Defined terms (PS3.3 section C.12.1.1.2); "" stands for the default, and for what is none.
    """
    text = declared.decode("latin-1") if isinstance(declared, bytes) else declared
    terms = tuple(_term("".join(c for c in each if " " <= c <= "~").strip()) for each in text.split("\\"))
    if len(terms) > 1 and terms[0] in STAND_ALONE_ENCODINGS:
        return terms[:1]
    return terms[:1] + tuple(term for term in terms[1:] if term and term not in STAND_ALONE_ENCODINGS)


def _term(name: str) -> str:
    if name in python_encoding:
        return name
    upper = name.upper()
    for pattern, term in ((_EXTENSION, "ISO 2022 IR "), (_SINGLE, "ISO_IR ")):
        if (match := pattern.fullmatch(upper)) and term + match[1] in python_encoding:
            return term + match[1]
    return _BY_CODEC.get(_codec(name), "")


def _codec(name: str) -> str:
    """Python's name of an encoding; "" for none, or none of characters."""
    try:
        return codecs.lookup(name).name if re.fullmatch(r"[A-Za-z0-9_\-. ]{1,40}", name) else ""
    except LookupError:
        return ""


# Encodings by the names people give them, where that is no defined term: "UTF-8", "iso-8859-1".
_BY_CODEC = {
    codecs.lookup(encoding).name: term
    for term, encoding in reversed(python_encoding.items())
    if term.startswith(("ISO_IR", "GB")) and term != "ISO_IR 6"
}


# By byte; the five that Windows-1252 does not use are the control characters of ISO 8859-1.
_WINDOWS_LATIN_1 = tuple(
    bytes((byte,)).decode("latin-1" if byte in {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "cp1252")
    for byte in range(256)
)


def encodings_of(declared: bytes | str) -> list[str]:
    """Python's encodings for a value of Specific Character Set."""
    return [python_encoding[term] for term in character_sets(declared)]


def decode(value: bytes, encodings: Sequence[str], delimiters: Collection[int] = DELIMITERS) -> str:
    """Decode a text; what is not in the declared character set is taken as Windows' Latin-1.

    That loses nothing: other bytes are always another text.

    Args:
        value: As encoded.
        encodings: Of ``encodings_of``.
        delimiters: Bytes that end a code extension.
    """
    text = None if is_windows(value, encodings) else decode_strictly(value, encodings, delimiters)
    return "".join(map(_WINDOWS_LATIN_1.__getitem__, value)) if text is None else text


def is_windows(value: bytes, encodings: Sequence[str]) -> bool:
    """Whether a text is said to be in Latin-1, or in nothing, and holds letters of Windows-1252."""
    return encodings[0] in _LATIN_1 and b"\x1b" not in value and _C1.search(value) is not None


def decode_strictly(
    value: bytes, encodings: Sequence[str], delimiters: Collection[int] = DELIMITERS
) -> str | None:
    """Decode a text; None when it is not in what it is declared to be in."""
    try:
        if b"\x1b" not in value:
            return value.decode(encodings[0])
        return "".join(_fragment(fragment, encodings, delimiters) for fragment in _FRAGMENTS.findall(value))
    except (UnicodeError, LookupError):
        return None


def _fragment(fragment: bytes, encodings: Sequence[str], delimiters: Collection[int]) -> str:
    """Decode what begins with an escape sequence, or stands before the first.

    Raises:
        UnicodeError, LookupError: Not as declared.
    """
    if not fragment.startswith(b"\x1b"):
        return fragment.decode(encodings[0])
    length = 4 if fragment.startswith((b"\x1b$(", b"\x1b$)")) else 3
    encoding = CODES_TO_ENCODINGS[fragment[:length]]
    if encoding not in encodings and encoding != default_encoding:
        raise LookupError(encoding)
    if encoding in handled_encodings:  # Python reads the escape sequence itself
        return fragment.decode(encoding)
    text = fragment[length:]
    end = next((i for i, byte in enumerate(text) if byte in delimiters), len(text))
    return text[:end].decode(encoding) + text[end:].decode(encodings[0])


def trimmed(text: str) -> str:
    """A text without padding: spaces, and what senders pad with instead; spaces of other scripts stay."""
    return text.strip(" \0\t\r\n\f\v")
