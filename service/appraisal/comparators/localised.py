"""The default method's comparator; see service/appraisal/localisation.py."""

from __future__ import annotations

from service.appraisal.normalisers.restoration import MODEL
from service.appraisal.tables import Comparator, ComparatorRow, Workplace

FUSION_MODEL = "default-fusion"


def _build(workplace: Workplace) -> Comparator:
    from service.appraisal.fusion import fusion_from
    from service.appraisal.localisation import LocalisedComparator
    from service.appraisal.reading import NetworkReader

    reader = NetworkReader(workplace.store.tensors(MODEL), workplace.device)
    return LocalisedComparator(reader, fusion_from(workplace.store.tensors(FUSION_MODEL)))


ROW = ComparatorRow(name="localised", version="1", models=(MODEL, FUSION_MODEL), build=_build)
