"""Users, rates and back-pressure, as real senders meet them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.acceptor.scp import Node
from dicom_node.admission.admission import BackPressure
from dicom_node.admission.users import digest_of
from service.config import Settings
from service.database import instances, ledger
from service.database.pool import Pool, open_pool, transaction
from service.errors import ConfigurationError
from service.records import InstanceState, LedgerEvent
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import photograph, save
from tests.peers import find_peer
from tests.records import offered
from tests.waiting import wait_until

StartNode = Callable[..., Node]


@pytest.fixture
def start(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[StartNode]:
    """Starts nodes with settings of the test's own."""
    nodes: list[Node] = []

    def begin(**changes: object) -> Node:
        nodes.append(Node(settings.model_copy(update=changes), pool, store))
        return nodes[-1]

    yield begin
    for each in nodes:
        each.stop()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"camera1:{digest_of('Öffne dich'.encode())}\ngateway:\n", encoding="utf-8")
    return path


def refusals(pool: Pool) -> list[dict[str, str]]:
    with transaction(pool) as connection:
        return [dict(e.detail) for e in ledger.entries(connection, "") if e.event is LedgerEvent.REFUSED]


def echo(node: Node, user: UserIdentityNegotiation | None = None) -> Association:
    ae = AE(ae_title="CAMERA")
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", node.port, ae_title="SEMBLANCE", ext_neg=[user] if user else [])


def identity(
    kind: int, name: str, passcode: str | None = None, *, answer: bool = True
) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.positive_response_requested = answer
    item.primary_field = name.encode()
    if passcode is not None:
        item.secondary_field = passcode.encode()
    return item


@pytest.mark.parametrize(
    ("kind", "name", "passcode", "accepted"),
    [
        (2, "camera1", "Öffne dich", True),
        (2, "camera1", "öffne dich", False),
        (2, "nobody", "Öffne dich", False),
        (2, "gateway", "anything", False),
        (1, "gateway", None, True),
        (1, "camera1", None, False),
        (3, "a Kerberos ticket", None, False),
        (5, "a.JSON.token", None, False),
    ],
)
def test_who_is_admitted(  # noqa: PLR0917
    start: StartNode, users: Path, pool: Pool, kind: int, name: str, passcode: str | None, accepted: bool
) -> None:
    node = start(dicom_users_file=users)
    association = echo(node, identity(kind, name, passcode))
    assert association.is_established is accepted
    assert association.is_rejected is not accepted
    if accepted:
        response = association.acceptor.user_identity
        assert response is not None
        assert not response.server_response
        association.release()
    else:
        wait_until(lambda: refusals(pool), timeout_s=20, what="the refusal in the ledger")
        found = next(each for each in refusals(pool) if each["reason"] == "user identity not accepted")
        assert found["user"] == ("" if kind > 2 else name)
        assert "dich" not in str(refusals(pool))


def test_no_answer_where_none_was_asked_for(start: StartNode, users: Path) -> None:
    association = echo(start(dicom_users_file=users), identity(1, "gateway", answer=False))
    assert association.is_established
    assert association.acceptor.user_identity is None
    association.release()


def test_a_node_without_users_accepts_and_does_not_answer(start: StartNode) -> None:
    association = echo(start(), identity(2, "anybody", "anything"))
    assert association.is_established
    assert association.acceptor.user_identity is None
    association.release()


def test_users_may_be_required(start: StartNode, users: Path) -> None:
    node = start(dicom_users_file=users, dicom_require_user_identity=True)
    assert echo(node).is_rejected
    association = echo(node, identity(1, "gateway"))
    assert association.is_established
    association.release()


def test_users_that_are_required_must_be_configured(
    settings: Settings, pool: Pool, store: InstanceStore
) -> None:
    with pytest.raises(ConfigurationError, match="dicom_users_file"):
        Node(settings.model_copy(update={"dicom_require_user_identity": True}), pool, store)


def run(program: str, node: Node, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = find_peer(program)
    assert found is not None
    command = [found, "-v", "-aec", "SEMBLANCE", *map(str, arguments[:-1]), "127.0.0.1", str(node.port)]
    return subprocess.run(
        [*command, str(arguments[-1])], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.peers("storescu")
def test_dcmtk_identifies_itself_and_gets_its_answer(start: StartNode, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"camera1:{digest_of(b'secret')}\n")
    node = start(dicom_users_file=users, dicom_require_user_identity=True)
    path = save(photograph(transfer_syntax=ExplicitVRLittleEndian), tmp_path / "a.dcm")
    assert run("storescu", node, path).returncode != 0
    wrong = run("storescu", node, "-usr", "camera1", "-pwd", "wrong", "-rsp", path)
    assert wrong.returncode != 0
    right = run("storescu", node, "-usr", "camera1", "-pwd", "secret", "-rsp", path)
    assert right.returncode == 0, right.stdout + right.stderr


def test_too_many_associations_a_minute_are_congestion(start: StartNode, pool: Pool) -> None:
    node = start(dicom_associations_per_minute=2)
    for _ in range(2):
        association = echo(node)
        assert association.is_established
        association.release()
    refused = echo(node)
    assert refused.is_rejected
    answer = refused.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (0x02, 0x03, 0x01)
    wait_until(lambda: refusals(pool), timeout_s=20, what="the refusal in the ledger")
    assert "congestion" in refusals(pool)[0]["reason"].lower()


def test_too_many_objects_a_minute_are_refused_and_nothing_is_kept(start: StartNode, pool: Pool) -> None:
    node = start(dicom_objects_per_minute=2)
    sent = [photograph(seed=seed) for seed in range(3)]
    answers = [dicom_objects.store(node.port, each) for each in sent]
    assert [each.Status for each in answers] == [0x0000, 0x0000, 0xA700]
    assert "later" in answers[2].ErrorComment
    with transaction(pool) as connection:
        assert instances.by_uid(connection, sent[2].SOPInstanceUID) is None


def test_a_queue_that_is_too_long_and_shrinks_again(pool: Pool) -> None:
    now = [0.0]
    pressure = BackPressure(pool, 10, lambda: now[0])
    receive(pool, range(11))
    assert pressure.is_too_long()
    work_off(pool, 1)  # ten wait: as many as may, but more than nine tenths
    now[0] += 2
    assert pressure.is_too_long()
    work_off(pool, 1)
    assert pressure.is_too_long()  # nobody looks more than once a second
    now[0] += 2
    assert not pressure.is_too_long()
    receive(pool, range(20, 21))
    now[0] += 2
    assert not pressure.is_too_long()


def test_a_database_that_is_away_is_no_long_queue(settings: Settings, free_port: Callable[[], int]) -> None:
    away = settings.model_copy(update={"database_url": f"postgresql://u@127.0.0.1:{free_port()}/none"})
    with open_pool(away) as nowhere:
        assert not BackPressure(nowhere, 10).is_too_long()


def receive(pool: Pool, numbers: range) -> None:
    with transaction(pool) as connection:
        for number in numbers:
            instances.receive(connection, offered(f"1.2.3.{number}"))


def work_off(pool: Pool, count: int) -> None:
    with transaction(pool) as connection:
        waiting = [
            each for each in instances.newest(connection, 1000) if each.state is InstanceState.RECEIVED
        ]
        for each in waiting[:count]:
            instances.set_state(connection, each.instance_id, InstanceState.DELIVERED)


@pytest.mark.peers("dcmsend")
def test_a_sender_that_retries_gets_through_once_the_queue_is_short(
    start: StartNode, pool: Pool, tmp_path: Path
) -> None:
    receive(pool, range(3))
    node = start(dicom_max_waiting=2)
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    path, report = save(ds, tmp_path / "a.dcm"), tmp_path / "report.txt"

    def send() -> str:
        run("dcmsend", node, "--no-halt", "--create-report-file", report, path)
        return report.read_text()

    assert "0xa700" in send().lower()
    with transaction(pool) as connection:
        assert instances.by_uid(connection, ds.SOPInstanceUID) is None
    assert not [each for each in (tmp_path / "store").rglob("*.part") if each.is_file()]
    work_off(pool, 2)
    said = wait_until(
        lambda: (text := send()) and "0xa700" not in text.lower() and text,
        timeout_s=30,
        what="the sender to get through",
    )
    assert "0x0000" in said  # type: ignore[operator]
    with transaction(pool) as connection:
        assert instances.by_uid(connection, ds.SOPInstanceUID) is not None


def test_one_address_does_not_multiply_its_rate_by_ae_titles(start: StartNode) -> None:
    node = start(dicom_associations_per_minute=3)
    context = (Verification, ExplicitVRLittleEndian)
    answers = [dicom_objects.associate(node.port, context, calling=f"C{n}") for n in range(6)]
    assert sum(each.is_established for each in answers) == 3
    for each in answers:
        if each.is_established:
            each.release()


def test_guesses_are_few_whatever_ae_title_they_come_under(start: StartNode, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"camera1:{digest_of(b'secret')}\n")
    node = start(dicom_users_file=users, dicom_require_user_identity=True)
    for number in range(12):
        assert not is_admitted(node, f"guess{number}".encode(), calling=f"GUESS{number}")
    # the right passcode, after too many wrong ones from this address
    assert not is_admitted(node, b"secret", calling="CAMERA")


def is_admitted(node: Node, passcode: bytes, calling: str) -> bool:
    ae = AE(ae_title=calling)
    ae.add_requested_context(Verification, ExplicitVRLittleEndian)
    item = UserIdentityNegotiation()
    item.user_identity_type, item.primary_field, item.secondary_field = 2, b"camera1", passcode
    association = ae.associate("127.0.0.1", node.port, ext_neg=[item])
    admitted = bool(association.is_established)
    if admitted:
        association.release()
    return admitted
