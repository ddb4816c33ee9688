"""ADT messages read: who is meant, and what is said (HL7 2.3 to 2.8, chapter 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import hl7

from reporting.fhir.builders.subject import system_of
from reporting.identifiers import issuer_key
from service.dicom.text import decode
from service.errors import AnnouncementError

_DATE = re.compile(r"(\d{4})(\d{2})?(\d{2})?")
_GENDERS = {"M": "male", "F": "female", "O": "other", "A": "other", "U": "unknown", "N": "other"}
_CHARSETS = {"": "utf-8", "ASCII": "utf-8", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8"}
_MOST_NUMBERS = 50
# Types of identifiers (CX.5, table 0203) that number stays and bills, often in the namespace of the patients.
_NOT_OF_PATIENTS = frozenset({"AN", "ANC", "AND", "ANT", "VN"})
_UNDECLARED = ("", "ASCII")  # MSH-18 of senders that send what their system has, as Latin-1


class Event(StrEnum):
    """The trigger events that are served."""

    UPDATE_PATIENT = "A08"
    UPDATE_PERSON = "A31"
    MERGE = "A40"


@dataclass(frozen=True, kw_only=True)
class Number:
    """A patient number of an assigning authority (CX)."""

    value: str
    issuer: str  # namespace ID of the assigning authority, as DICOM's Issuer of Patient ID; "" without one
    key: str  # who issued it, as ``issuer_key`` has it
    system: str  # of the FHIR identifier; "" when nobody says who issued it


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What one message says."""

    event: Event
    control_id: str
    sender: str  # sending application and facility
    numbers: tuple[Number, ...]  # PID-3, at least one
    prior: tuple[Number, ...]  # MRG-1; at least one of a merge
    family: str
    given: tuple[str, ...]
    birth_date: str  # FHIR date; "" when it is not said
    gender: str  # FHIR code; "" when it is not said


def decoded(data: bytes) -> str:
    """The text of a message, by its own MSH-18; segments ended by carriage returns, whatever ended them.

    What is declared as nothing or as ASCII, and is not UTF-8, is taken as Windows' Latin-1.

    Raises:
        AnnouncementError: It is not text of its character set.
    """
    data = data.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    fields = data.split(b"\r", 1)[0].split(data[3:4] or b"|")
    declared = fields[17].decode("ascii", "replace").split("~")[0].strip() if len(fields) > 17 else ""
    latin = re.fullmatch(r"8859/(\d{1,2})", declared)
    encoding = f"iso8859-{latin[1]}" if latin else _CHARSETS.get(declared.upper(), "")
    try:
        is_declared = declared.upper() not in _UNDECLARED
        text = data.decode(encoding) if is_declared else decode(data, ["utf-8"], ())
    except (LookupError, UnicodeError) as exc:
        raise AnnouncementError(f"MSH-18 {declared!r}: the text cannot be read") from exc
    if "\x00" in text:
        raise AnnouncementError("the text holds NUL")
    return text


def read(text: str, systems: Mapping[str, str]) -> Announcement:
    """Read a message.

    Args:
        text: Decoded, segments ended by carriage returns.
        systems: ``Settings.fhir_identifier_systems``.

    Raises:
        AnnouncementError: It is no ADT message that is served, or does not say who is meant.
    """
    try:
        message = hl7.parse(text)
        header, pid = message.segment("MSH"), message.segment("PID")
    except (hl7.HL7Exception, KeyError, IndexError, ValueError) as exc:
        raise AnnouncementError("not an HL7 message with MSH and PID") from exc
    split = _Separators(message, text)
    kind = split.components(_field(header, 9))
    if kind[:1] != ["ADT"] or len(kind) < 2 or kind[1] not in set(Event):
        raise AnnouncementError(f"{'^'.join(kind[:2])} is not served here: ADT^A08, A31 and A40 are")
    event = Event(kind[1])
    numbers = split.numbers(_field(pid, 3), systems)
    if not numbers:
        raise AnnouncementError("PID-3 holds no patient number")
    merged = _merged(message) if event is Event.MERGE else []
    prior = tuple(number for field in merged for number in split.numbers(field, systems))
    if event is Event.MERGE and not prior:
        raise AnnouncementError("MRG-1 holds no patient number")
    name = split.components(split.repetitions(_field(pid, 5))[0]) if _field(pid, 5) else []
    name += [""] * (3 - len(name))
    return Announcement(
        event=event,
        control_id=_field(header, 10),
        sender="|".join(split.components(_field(header, place))[0] for place in (3, 4)),
        numbers=numbers,
        prior=prior,
        family=split.first(name[0]),
        given=tuple(part for part in name[1:3] if part),
        birth_date=_birth_date(split.components(_field(pid, 7))[0]),
        gender=_GENDERS.get(split.components(_field(pid, 8))[0].upper(), ""),
    )


def _field(segment: hl7.Segment, place: int) -> str:
    return str(segment[place]) if len(segment) > place else ""


def _merged(message: hl7.Message) -> list[str]:
    """MRG-1 of the message; one that merges several pairs is not served."""
    try:
        segments = message.segments("MRG")
    except KeyError:
        return []
    if len(segments) > 1 or len(message.segments("PID")) > 1:
        raise AnnouncementError("a message merges one pair of patients")
    return [_field(segment, 1) for segment in segments]


def _birth_date(text: str) -> str:
    match = _DATE.match(text)
    return "-".join(part for part in match.groups() if part) if match else ""


class _Separators:
    """Takes fields apart by the separators that MSH-1 and MSH-2 give."""

    def __init__(self, message: hl7.Message, text: str) -> None:
        given = text[4:8]
        marks = tuple((given + "^~\\&"[len(given) :])[:4])
        self._component, self._repetition, self._escape, self._sub = marks
        self._message = message

    def repetitions(self, field: str) -> list[str]:
        return [part for part in field.split(self._repetition) if part] or [""]

    def components(self, repetition: str) -> list[str]:
        return [self._plain(part) for part in repetition.split(self._component)]

    def first(self, component: str) -> str:
        return component.split(self._sub, maxsplit=1)[0]

    def numbers(self, field: str, systems: Mapping[str, str]) -> tuple[Number, ...]:
        found = []
        for repetition in self.repetitions(field)[:_MOST_NUMBERS]:
            raw = repetition.split(self._component) + [""] * 5
            if self._plain(raw[4]).upper() in _NOT_OF_PATIENTS:
                continue
            value = self._plain(raw[0])
            authority = [self._plain(part) for part in raw[3].split(self._sub)] + ["", "", ""]
            issuer, universal_id, universal_type = authority[:3]
            if value:
                system = system_of(issuer, universal_id, universal_type, systems)
                key = issuer_key(issuer, universal_id, universal_type)
                found.append(Number(value=value, issuer=issuer, key=key, system=system))
        return tuple(dict.fromkeys(found))

    def _plain(self, text: str) -> str:
        plain = str(self._message.unescape(text)) if self._escape in text else text
        return "" if plain == '""' else plain.strip()
