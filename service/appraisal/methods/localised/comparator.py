"""The default method's comparator; see service/appraisal/methods/localised/localisation.py."""

from __future__ import annotations

from service.appraisal.methods.localised.normaliser import MODEL
from service.appraisal.tables import Comparator, ComparatorRow, Workplace

FUSION_MODEL = "default-fusion"


def _build(workplace: Workplace) -> Comparator:
    from service.appraisal.methods.localised.fusion import fusion_from
    from service.appraisal.methods.localised.localisation import LocalisedComparator
    from service.appraisal.methods.localised.reading import NetworkReader

    reader = NetworkReader(workplace.store.tensors(MODEL), workplace.device, workplace.batching)
    return LocalisedComparator(reader, fusion_from(workplace.store.tensors(FUSION_MODEL)))


ROW = ComparatorRow(name="localised", version="2", models=(MODEL, FUSION_MODEL), build=_build)
