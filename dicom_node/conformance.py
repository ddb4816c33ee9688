"""The tables of the DICOM conformance statement, made from what the code negotiates.

``python -m dicom_node.conformance docs/conformance.md`` renews them between their markers; a test
fails when the statement and the code differ.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pydicom.uid import UID

from dicom_node.acceptor.contexts import supported_contexts
from dicom_node.encoding.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.encoding.statuses import StoreStatus
from dicom_node.query.contexts import RESULT_CLASSES
from dicom_node.query.statuses import QueryStatus
from dicom_node.readers import READERS, STORAGE_COMMITMENT_PUSH_MODEL, TRANSFER_SYNTAXES
from reporting.holdings.attributes import REQUIRED_KEYS, UNIQUE_KEYS, key_of

_MEANINGS: Mapping[StoreStatus, str] = MappingProxyType(
    {
        StoreStatus.SUCCESS: "On disk and committed; the photograph will be appraised",
        StoreStatus.SOP_CLASS_NOT_SUPPORTED: "Not the SOP class of the presentation context",
        StoreStatus.OUT_OF_RESOURCES: "Disk low, database away, too much waits or comes at once; send again",
        StoreStatus.DATA_SET_DOES_NOT_MATCH: "An identifier is missing, malformed or not the command's",
        StoreStatus.CANNOT_UNDERSTAND: "The data set cannot be parsed or ends early",
        StoreStatus.UNFORESEEN: "An error of the node's that sending again does not mend; not kept",
        StoreStatus.REJECTED_BEFORE: "A rejection note took the instance back",
        StoreStatus.NOTE_NOT_FOLLOWED: "A rejection note that cannot be followed; nothing of it was",
        StoreStatus.CONFLICTING_INSTANCE: "Known SOP Instance UID, different bytes; in quarantine",
    }
)

_QUERY_MEANINGS: Mapping[QueryStatus, str] = MappingProxyType(
    {
        QueryStatus.SUCCESS: "Done",
        QueryStatus.PENDING: "A match, or a C-STORE done",
        QueryStatus.PENDING_UNMATCHED_KEYS: "A match; some optional keys were not compared",
        QueryStatus.CANCELLED: "C-CANCEL came",
        QueryStatus.NOT_AUTHORISED: "This AE title may not query",
        QueryStatus.OUT_OF_RESOURCES: "C-FIND: database away, or the index too far behind; ask again",
        QueryStatus.CANNOT_COUNT: "C-MOVE, C-GET: the same, or more than 65,535 instances",
        QueryStatus.CANNOT_PERFORM: "No instance could be sent",
        QueryStatus.UNKNOWN_DESTINATION: "The move destination is no configured node",
        QueryStatus.DOES_NOT_MATCH: "The identifier is none of the study root model, or a value is malformed",
        QueryStatus.SOME_FAILED: "Some instances could not be sent, or were stored with a warning",
    }
)


def implementation() -> str:
    """Who we say we are (PS3.7 section D.3.3.2)."""
    return (
        "| Item | Value |\n|---|---|\n"
        f"| Implementation Class UID | `{IMPLEMENTATION_CLASS_UID}` |\n"
        f"| Implementation Version Name | `{IMPLEMENTATION_VERSION_NAME}` |\n"
    )


def accepted_contexts() -> str:
    """Every presentation context the node accepts."""
    lines = ["| SOP class | UID | Role | Transfer syntaxes |", "|---|---|---|---|"]
    for context in supported_contexts():
        uid = UID(context.abstract_syntax or "")
        role = _role(uid)
        syntaxes = (
            "all below"
            if len(context.transfer_syntax) == len(TRANSFER_SYNTAXES)
            else _names(context.transfer_syntax)
        )
        lines.append(f"| {uid.name} | `{uid}` | {role} | {syntaxes} |")
    return "\n".join(lines) + "\n"


def _role(uid: UID) -> str:
    """What we are of a service, towards who calls."""
    if uid in RESULT_CLASSES:
        return "SCU, of C-GET"
    if uid in READERS:
        return "SCP; SCU of C-GET"
    return "SCP and SCU" if uid == STORAGE_COMMITMENT_PUSH_MODEL else "SCP"


def query_keys() -> str:
    """The keys of a query by level; all others are optional."""
    lines = ["| Level | Unique key | Required keys |", "|---|---|---|"]
    for level, keywords in REQUIRED_KEYS.items():
        unique = key_of(UNIQUE_KEYS[level]).keyword
        lines.append(f"| {level.value} | {unique} | {', '.join(keywords)} |")
    return "\n".join(lines) + "\n"


def query_statuses() -> str:
    """Every status a query or retrieval is answered with."""
    lines = ["| Status | Meaning |", "|---|---|"]
    lines += [f"| `0x{status:04X}` | {_QUERY_MEANINGS[status]} |" for status in QueryStatus]
    return "\n".join(lines) + "\n"


def transfer_syntaxes() -> str:
    """Every transfer syntax of a stored object."""
    lines = ["| Transfer syntax | UID |", "|---|---|"]
    lines += [f"| {uid.name} | `{uid}` |" for uid in TRANSFER_SYNTAXES]
    return "\n".join(lines) + "\n"


def store_statuses() -> str:
    """Every status a C-STORE of a sender is answered with."""
    lines = ["| Status | Meaning |", "|---|---|"]
    lines += [f"| `0x{status:04X}` | {meaning} |" for status, meaning in _MEANINGS.items()]
    return "\n".join(lines) + "\n"


def _names(uids: list[UID]) -> str:
    return ", ".join(uid.name for uid in uids)


TABLES: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "implementation": implementation,
        "accepted-contexts": accepted_contexts,
        "transfer-syntaxes": transfer_syntaxes,
        "store-statuses": store_statuses,
        "query-keys": query_keys,
        "query-statuses": query_statuses,
    }
)


def renewed(statement: str) -> str:
    """The statement with its tables made again.

    Args:
        statement: Markdown with a pair of markers for each of TABLES.

    Raises:
        ValueError: A marker is missing.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        head, _, rest = statement.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise ValueError(f"the conformance statement has no table {name!r}")
        statement = head + begin + table() + end + tail
    return statement


def main() -> None:
    """Renew the file named on the command line."""
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
