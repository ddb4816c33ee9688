"""The default method's normalisers: ``counterpart`` draws a normal face, ``restoration`` was used before it.

See service/appraisal/methods/localised/counterpart/drawing.py and
service/appraisal/methods/localised/restoration.py.
"""

from __future__ import annotations

from service.appraisal.tables import Normaliser, NormaliserRow, Workplace

MODEL = "default-face"
EXPECTED_MODEL = "default-counterpart"


def _restoration(workplace: Workplace) -> Normaliser:
    from service.appraisal.methods.localised.reading import NetworkReader
    from service.appraisal.methods.localised.restoration import RestorationNormaliser

    tensors = workplace.store.tensors(MODEL)
    return RestorationNormaliser(NetworkReader(tensors, workplace.device, workplace.batching))


def _counterpart(workplace: Workplace) -> Normaliser:
    from service.appraisal.methods.localised.counterpart.drawing import expected_face_from
    from service.appraisal.methods.localised.counterpart.normaliser import CounterpartNormaliser
    from service.appraisal.methods.localised.reading import NetworkReader

    reader = NetworkReader(workplace.store.tensors(MODEL), workplace.device, workplace.batching)
    return CounterpartNormaliser(reader, expected_face_from(workplace.store.tensors(EXPECTED_MODEL)))


RESTORATION = NormaliserRow(name="restoration", version="1", models=(MODEL,), build=_restoration)
COUNTERPART = NormaliserRow(
    name="counterpart", version="1", models=(MODEL, EXPECTED_MODEL), build=_counterpart
)
ROWS = (RESTORATION, COUNTERPART)
