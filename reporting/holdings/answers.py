"""What is answered to a query: attributes of an entity and of those above it, and what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from reporting.holdings.attributes import UNIQUE_KEYS, key_of
from reporting.holdings.database.holding_records import Level, Match

ONLINE = "ONLINE"  # Instance Availability, PS3.3 section C.4.23.1.1

_COMPUTED: Mapping[str, Callable[[Match], Iterable[str | int]]] = MappingProxyType(
    {
        "00080061": lambda match: sorted(match.modalities_in_study),
        "00080062": lambda match: sorted(match.sop_classes_in_study),
        "00201206": lambda match: [match.study_related_series],
        "00201208": lambda match: [match.study_related_instances],
        "00201209": lambda match: [match.series_related_instances],
        "00080056": lambda _match: [ONLINE],
        "00083002": lambda match: sorted(match.transfer_syntaxes),
    }
)


def attributes_of(match: Match) -> dict[str, Any]:
    """Everything that is known of a match, in the DICOM JSON Model."""
    known: dict[str, Any] = {**match.study, **match.series, **match.image}
    for tag, values in _COMPUTED.items():
        known[tag] = {"vr": key_of(tag).vr, "Value": list(values(match))}
    uids = {
        Level.STUDY: match.study_instance_uid,
        Level.SERIES: match.series_instance_uid,
        Level.IMAGE: match.sop_instance_uid,
    }
    for level, uid in uids.items():
        if uid:
            known[UNIQUE_KEYS[level]] = {"vr": "UI", "Value": [uid]}
    return known
