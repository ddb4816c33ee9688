"""The default method's normaliser; see service/appraisal/methods/localised/restoration.py."""

from __future__ import annotations

from service.appraisal.tables import Normaliser, NormaliserRow, Workplace

MODEL = "default-face"


def _build(workplace: Workplace) -> Normaliser:
    from service.appraisal.methods.localised.reading import NetworkReader
    from service.appraisal.methods.localised.restoration import RestorationNormaliser

    tensors = workplace.store.tensors(MODEL)
    return RestorationNormaliser(NetworkReader(tensors, workplace.device, workplace.batching))


ROW = NormaliserRow(name="restoration", version="1", models=(MODEL,), build=_build)
