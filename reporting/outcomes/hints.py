"""Whether a photograph's header says that it was taken before or after an operation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom import Dataset

from reporting.outcomes.records import Role
from reporting.source import text

_SNOMED = {"262068006": Role.PRE, "262061000": Role.POST}  # preoperative, postoperative
_SNOMED_DESIGNATORS = {"SCT", "SRT", "SNM3", "99SDM"}
_BEFORE = re.compile(
    r"\bpre[\s_-]?(op\b|operati|surg)|\bbefore (the )?(op\b|operation|surgery)", re.IGNORECASE
)
_AFTER = re.compile(
    r"\bpost[\s_-]?(op\b|operati|surg)|\bafter (the )?(op\b|operation|surgery)", re.IGNORECASE
)
# In this order the first that says anything counts; coded words before free ones.
_TEXTS = (
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "AcquisitionContextDescription",
    "SeriesDescription",
    "StudyDescription",
    "ImageComments",
)
_SEQUENCES = ("AcquisitionContextSequence", "ClinicalTrialTimePointTypeCodeSequence", "ProcedureCodeSequence",
              "RequestedProcedureCodeSequence")  # fmt: skip
_MOST_DEPTH = 3


def hint_of(header: Dataset) -> tuple[Role | None, str]:
    """What a header says, and by which attribute; None and "" when nothing, or both.

    Args:
        header: As ``reporting.source.read_source`` reads it.
    """
    for name in _SEQUENCES:
        found = {role for code in _codes(header, name, 0) if (role := _SNOMED.get(code))}
        if len(found) == 1:
            return found.pop(), name
    for name in _TEXTS:
        said = text(header, name)
        roles = {role for role, words in ((Role.PRE, _BEFORE), (Role.POST, _AFTER)) if words.search(said)}
        if len(roles) == 1:
            return roles.pop(), name
    return None, ""


def _codes(item: Dataset, name: str, depth: int) -> Iterator[str]:
    """SNOMED code values in a sequence and the ones within it."""
    if name not in item or depth > _MOST_DEPTH:
        return
    for inner in item[name].value or ():
        if text(inner, "CodingSchemeDesignator") in _SNOMED_DESIGNATORS:
            yield text(inner, "CodeValue")
        for below in ("ConceptCodeSequence", "ConceptNameCodeSequence"):
            yield from _codes(inner, below, depth + 1)
