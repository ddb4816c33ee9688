"""A node, one for each module, and what is asked of it; a module may have settings of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    generate_uid,
)

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import STUDY_ROOT_FIND
from service.config import Settings
from service.database.pool import Pool, open_pool
from service.peers import Destination
from service.stack.servers import EmbeddedPostgres
from service.storage.local import InstanceStore, open_store
from tests.conftest import cloned_database, settings_of
from tests.dicom_objects import photograph
from tests.dicom_objects import store as send
from tests.integration.dicom_node.query.asking import (
    SUCCESS,
    Find,
    Workstation,
    associate,
)
from tests.nodes import running


@pytest.fixture(scope="module")
def running_workstation() -> Iterator[Workstation]:
    made = Workstation()
    yield made
    made.server.shutdown()


@pytest.fixture
def workstation(running_workstation: Workstation) -> Workstation:
    """The workstation, with nothing received yet."""
    running_workstation.received.clear()
    running_workstation.originators.clear()
    running_workstation.statuses = iter(())
    return running_workstation


@pytest.fixture(scope="module")
def settings(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, running_workstation: Workstation
) -> Iterator[Settings]:
    """A node that knows the workstation, and one node that is not there; for all tests here."""
    rows = (
        Destination(name="viewer", ae_title="VIEWER", host="127.0.0.1", port=running_workstation.port),
        Destination(name="gone", ae_title="GONE", host="127.0.0.1", port=1),
    )
    with cloned_database(postgres) as url:
        made = settings_of(url, tmp_path_factory.mktemp("query"))
        yield made.model_copy(update={"dicom_peers": rows, "delivery_timeout_s": 30.0})


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def store(settings: Settings) -> InstanceStore:
    return open_store(settings)


@pytest.fixture(scope="module")
def node(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    with running(settings, pool, store) as started:
        yield started


@pytest.fixture(scope="module")
def held(node: Node) -> list[Dataset]:
    """Two studies of two patients; the first has two series, of two and one photographs."""
    made = []
    study, series = generate_uid(), generate_uid()
    for number in (1, 2, 3):
        ds = photograph(patient_id="P1", patient_name="Doe^Jane", seed=number)
        ds.StudyInstanceUID = study
        ds.StudyDescription = "Cleft lip, before surgery"
        if number < 3:
            ds.SeriesInstanceUID = series
        ds.InstanceNumber = str(number)
        made.append(ds)
    other = photograph(
        patient_id="P2",
        patient_name="Müller^Jörg",
        character_set="ISO_IR 100",
        transfer_syntax=ExplicitVRLittleEndian,
    )
    other.StudyDate, other.StudyTime, other.AccessionNumber = "20250615", "0930", "A-7"
    made.append(other)
    for ds in made:
        assert send(node.port, ds).Status == SUCCESS
    return made


@pytest.fixture
def find(node: Node, held: list[Dataset]) -> Find:
    """Asks the node; answers the last status and the matches."""

    def ask(identifier: Dataset, **more: object) -> tuple[int, list[Dataset]]:
        association = associate(node, STUDY_ROOT_FIND, **more)
        answers = list(association.send_c_find(identifier, STUDY_ROOT_FIND))
        association.release()
        return answers[-1][0].Status, [ds for _, ds in answers if ds is not None]

    return ask
