"""The default method's comparator; see service/appraisal/methods/localised/localisation.py."""

from __future__ import annotations

from service.appraisal.methods.localised.normaliser import EXPECTED_MODEL, MODEL
from service.appraisal.tables import Comparator, ComparatorRow, Workplace

FUSION_MODEL = "default-fusion"


def _build(workplace: Workplace) -> Comparator:
    from service.appraisal.methods.localised.counterpart.drawing import expected_face_from
    from service.appraisal.methods.localised.fusion import fusion_from
    from service.appraisal.methods.localised.localisation import LocalisedComparator
    from service.appraisal.methods.localised.reading import NetworkReader

    reader = NetworkReader(workplace.store.tensors(MODEL), workplace.device, workplace.batching)
    expected = expected_face_from(workplace.store.tensors(EXPECTED_MODEL))
    return LocalisedComparator(reader, fusion_from(workplace.store.tensors(FUSION_MODEL)), expected)


ROW = ComparatorRow(name="localised", version="3", models=(MODEL, FUSION_MODEL, EXPECTED_MODEL), build=_build)
