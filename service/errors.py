"""Every error Semblance raises on purpose, drawn once.

::

    SemblanceError
    ├── ConfigurationError            a setting is missing, malformed or contradicts another
    ├── PhotographError               the photograph itself is at fault; never retried
    │   ├── UndecodablePhotographError    the pixel data cannot be decoded
    │   └── UnsupportedPhotographError    decodes, but is of a kind we do not appraise
    ├── DecoderLostError              a photograph ended the process that decoded it; tried once more
    ├── StepTimeoutError              a step took longer than it may; tried once more
    ├── ModelError                    a model file is at fault
    │   ├── ModelNotFoundError            in no weights directory, mirror or URL
    │   ├── ModelIntegrityError           SHA-256 differs from the manifest
    │   ├── UnsafeModelError              a foreign model file asks for code to be run, or is damaged
    │   └── UnknownMethodError            no such row in NORMALISERS or COMPARATORS
    ├── StorageError                  bytes could not be kept or read back
    │   ├── InstanceNotStoredError        no bytes under that SHA-256
    │   ├── CorruptInstanceError          bytes do not match their SHA-256
    │   │   └── InconsistentInstanceError     they do, and are not what their header says
    │   ├── StorageFullError              free space is under the low watermark
    │   └── StoredMapError                a map or picture kept with an appraisal is not what it should be
    ├── IntakeError                   an object offered to the node cannot be accepted
    │   ├── InvalidIdentifierError        a UID is missing or malformed (PS3.5 section 9.1)
    │   ├── IncompleteInstanceError       fewer bytes arrived than were announced
    │   ├── ConflictingInstanceError      same SOP Instance UID, different bytes
    │   ├── RejectedInstanceError         a rejection note took it back before
    │   ├── RejectionNoteError            a rejection note that cannot be followed
    │   ├── UnsupportedInstanceError      SOP class or transfer syntax that no reader takes
    │   └── NodeBusyError                 too much waits or comes at once; the sender may try again
    ├── ResultError                   a result object would be invalid; it is not sent
    ├── DeliveryError                 a destination did not take a result; retried
    │   ├── DestinationUnreachableError   no association
    │   └── DestinationRefusedError       a failure status (PS3.4 Annex B.2.3)
    │       ├── DestinationBusyError          one that may pass: 0xA7xx and the like
    │       └── ResultNotAcceptedError        one that stays until somebody acts
    ├── QueryError                    a key of a query cannot be matched as it is written
    ├── AnnouncementError             an HL7 message cannot be followed; answered with AE
    ├── NotificationError             a subscriber did not take a notification; retried
    ├── OutcomeError                  an outcome, chart or case would be wrong or misleading; not made
    ├── FhirError                     answered with an OperationOutcome
    │   └── FhirVersionConflictError      the current version is not the expected one
    ├── StackError                    a process of the embedded stack does not start or stay up
    ├── BrokerUnavailableError        the Celery broker cannot be reached; retried
    ├── AuditServerError              the syslog server did not take audit messages; retried
    ├── DatabaseUnavailableError      PostgreSQL cannot be reached or ended the transaction; retried
    │   ├── TransactionConflictError      another transaction got in the way: deadlock, serialisation
    │   └── StatementTimeoutError         a statement or request took longer than it may
    ├── SchemaError                   the database's schema is not that of this version
    ├── RecordNotFoundError           no such row
    └── UnknownStepError              no step of the pipeline has that name
"""

from __future__ import annotations


class SemblanceError(Exception):
    """Base of every error raised on purpose."""


class ConfigurationError(SemblanceError):
    """A setting is missing, malformed or contradicts another."""


class PhotographError(SemblanceError):
    """The photograph itself is at fault; trying again cannot help."""


class UndecodablePhotographError(PhotographError):
    """The pixel data cannot be decoded."""


class UnsupportedPhotographError(PhotographError):
    """The photograph decodes but is of a kind that is not appraised."""


class DecoderLostError(SemblanceError):
    """A photograph ended the process that decoded it, or held it up too long; tried once more."""


class StepTimeoutError(SemblanceError):
    """A step took longer than it may; tried once more."""


class ModelError(SemblanceError):
    """A model file is at fault."""


class ModelNotFoundError(ModelError):
    """The model is in no weights directory, mirror or URL."""


class ModelIntegrityError(ModelError):
    """The file's SHA-256 differs from the manifest's."""


class UnsafeModelError(ModelError):
    """A foreign model file asks for code to be run, or is damaged; nothing of it was run."""


class UnknownMethodError(ModelError):
    """No such row in NORMALISERS or COMPARATORS."""


class StorageError(SemblanceError):
    """Bytes could not be kept or read back."""


class InstanceNotStoredError(StorageError):
    """There are no bytes under that SHA-256."""


class CorruptInstanceError(StorageError):
    """The bytes read back do not match their SHA-256."""


class InconsistentInstanceError(CorruptInstanceError):
    """The bytes are those that came, and they are not what their header says."""


class StorageFullError(StorageError):
    """Free space is under the low watermark."""


class StoredMapError(StorageError):
    """A map or picture kept with an appraisal is not what it should be."""


class StoredResourceError(StorageError):
    """A FHIR resource in the database cannot be read any more."""


class IntakeError(SemblanceError):
    """An object offered to the node cannot be accepted."""


class InvalidIdentifierError(IntakeError):
    """A UID is missing or malformed (DICOM PS3.5 section 9.1)."""


class IncompleteInstanceError(IntakeError):
    """Fewer bytes arrived than were announced."""


class ConflictingInstanceError(IntakeError):
    """Same SOP Instance UID, different bytes."""


class RejectedInstanceError(IntakeError):
    """A rejection note took the instance back, before it came or came again."""


class RejectionNoteError(IntakeError):
    """A rejection note cannot be followed; nothing of it was."""


class UnsupportedInstanceError(IntakeError):
    """A SOP class or transfer syntax that no reader takes."""


class NodeBusyError(IntakeError):
    """Too much waits or comes at once; the sender may try again later."""


class ResultError(SemblanceError):
    """A result object would be invalid; it is not sent."""


class DeliveryError(SemblanceError):
    """A destination did not take a result; it will be tried again."""


class DestinationUnreachableError(DeliveryError):
    """No association with the destination could be made or kept."""


class DestinationRefusedError(DeliveryError):
    """The destination answered with a failure status (DICOM PS3.4 Annex B.2.3)."""


class DestinationBusyError(DestinationRefusedError):
    """A failure status that may pass, as Refused: Out of Resources."""


class ResultNotAcceptedError(DestinationRefusedError):
    """The destination does not take this object, and will not until somebody acts."""


class QueryError(SemblanceError):
    """A key of a query (C-FIND, QIDO-RS) cannot be matched as it is written."""


class AnnouncementError(SemblanceError):
    """An HL7 version 2 message cannot be followed; its sender is told why."""


class NotificationError(SemblanceError):
    """A subscriber's endpoint did not take a notification; it will be tried again."""


class OutcomeError(SemblanceError):
    """A case, pair, change or chart would be wrong or misleading, and is not made."""


class FhirError(SemblanceError):
    """A FHIR request cannot be served; answered with an OperationOutcome."""


class FhirVersionConflictError(FhirError):
    """The current version of a resource is not the one the writer expects.

    Args:
        message: What is wrong.
        reference: Of the resource, as Type/id.
    """

    def __init__(self, message: str, reference: str = "") -> None:
        self.reference = reference
        super().__init__(message)


class StackError(SemblanceError):
    """A process of the embedded stack does not start or does not stay up."""


class BrokerUnavailableError(SemblanceError):
    """The Celery broker cannot be reached."""


class AuditServerError(SemblanceError):
    """The syslog server did not take audit messages; they are sent again."""


class CheckpointError(SemblanceError):
    """A checkpoint of the chain, its key or its list of keys is not what it should be."""


class DatabaseUnavailableError(SemblanceError):
    """PostgreSQL cannot be reached or ended the transaction for a reason that passes."""


class TransactionConflictError(DatabaseUnavailableError):
    """Another transaction got in the way: a deadlock or a failed serialisation; run again it may pass."""


class StatementTimeoutError(DatabaseUnavailableError):
    """A statement or a request took longer than this process lets one take."""


class SchemaLockedError(DatabaseUnavailableError):
    """Other sessions keep tables busy that a migration has to change; it can be run again."""


class SchemaError(SemblanceError):
    """The database's schema is not that of this version: it was not migrated, or by another one."""


class RecordNotFoundError(SemblanceError):
    """No such row in the database."""


class UnknownStepError(SemblanceError):
    """No step of the pipeline has that name: another version wrote it."""
