"""The codes of DICOM PS3.15 annex A.5 audit messages; meanings as in PS3.16 annex D (DCM) and RFC 3881."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded value (CodedValueType of PS3.15 section A.5.1)."""

    value: str
    scheme: str
    meaning: str


class _Coded(Enum):
    """A code of one scheme."""

    @property
    def code(self) -> Code:
        """The coded value."""
        value: Code = self.value
        return value


def _dcm(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="DCM", meaning=meaning)


class EventId(_Coded):
    """Kinds of event (CID 400)."""

    APPLICATION_ACTIVITY = _dcm("110100", "Application Activity")
    AUDIT_LOG_USED = _dcm("110101", "Audit Log Used")
    BEGIN_TRANSFERRING = _dcm("110102", "Begin Transferring DICOM Instances")
    INSTANCES_ACCESSED = _dcm("110103", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED = _dcm("110104", "DICOM Instances Transferred")
    STUDY_DELETED = _dcm("110105", "DICOM Study Deleted")
    EXPORT = _dcm("110106", "Export")
    IMPORT = _dcm("110107", "Import")
    NETWORK_ENTRY = _dcm("110108", "Network Entry")
    QUERY = _dcm("110112", "Query")
    SECURITY_ALERT = _dcm("110113", "Security Alert")
    USER_AUTHENTICATION = _dcm("110114", "User Authentication")


class EventType(_Coded):
    """Kinds within a kind of event (CID 401 to 403)."""

    APPLICATION_START = _dcm("110120", "Application Start")
    APPLICATION_STOP = _dcm("110121", "Application Stop")
    LOGIN = _dcm("110122", "Login")
    LOGOUT = _dcm("110123", "Logout")
    ATTACH = _dcm("110124", "Attach")
    DETACH = _dcm("110125", "Detach")
    NODE_AUTHENTICATION = _dcm("110126", "Node Authentication")
    NETWORK_CONFIGURATION = _dcm("110128", "Network Configuration")
    SECURITY_CONFIGURATION = _dcm("110129", "Security Configuration")
    SOFTWARE_CONFIGURATION = _dcm("110131", "Software Configuration")
    USE_OF_RESTRICTED_FUNCTION = _dcm("110132", "Use of Restricted Function")
    AUDIT_RECORDING_STOPPED = _dcm("110133", "Audit Recording Stopped")
    AUDIT_RECORDING_STARTED = _dcm("110134", "Audit Recording Started")


class Role(_Coded):
    """What a participant does in an event (CID 402)."""

    APPLICATION = _dcm("110150", "Application")
    APPLICATION_LAUNCHER = _dcm("110151", "Application Launcher")
    DESTINATION = _dcm("110152", "Destination Role ID")
    SOURCE = _dcm("110153", "Source Role ID")
    DESTINATION_MEDIA = _dcm("110154", "Destination Media")
    SOURCE_MEDIA = _dcm("110155", "Source Media")


class ObjectIdType(_Coded):
    """What the identifier of an object is (CID 404)."""

    STUDY_INSTANCE_UID = _dcm("110180", "Study Instance UID")
    SOP_CLASS_UID = _dcm("110181", "SOP Class UID")
    NODE_ID = _dcm("110182", "Node ID")
    PATIENT_NUMBER = Code(value="2", scheme="RFC-3881", meaning="Patient Number")
    URI = Code(value="12", scheme="RFC-3881", meaning="URI")


class MediaType(_Coded):
    """What data leave or come on (CID 405)."""

    USB = _dcm("110030", "USB Disk Emulation")
    CD = _dcm("110032", "CD")
    URI = _dcm("110037", "URI")


class Action(StrEnum):
    """EventActionCode."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4  # tried again
    SERIOUS_FAILURE = 8  # ended
    MAJOR_FAILURE = 12  # the application is unavailable now


class AccessPoint(StrEnum):
    """NetworkAccessPointTypeCode."""

    MACHINE_NAME = "1"
    IP_ADDRESS = "2"
    URI = "5"


class ObjectType(StrEnum):
    """ParticipantObjectTypeCode."""

    PERSON = "1"
    SYSTEM_OBJECT = "2"


class ObjectRole(StrEnum):
    """ParticipantObjectTypeCodeRole."""

    PATIENT = "1"
    REPORT = "3"
    USER = "6"
    SECURITY_RESOURCE = "13"
    QUERY = "24"
