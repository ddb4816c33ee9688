"""ADT messages by MLLP: merges, updates, acknowledgements, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hl7
import pytest
from hl7.mllp import open_hl7_connection

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database.persons import ConflictKind
from reporting.fhir.http import Api
from reporting.hl7.listener import Listener
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database.pool import open_pool, transaction
from service.errors import ConfigurationError
from tests.integration.reporting.fhir.conftest import Client

SYSTEM = "urn:oid:1.2.3.4"
NUMBER_A, NUMBER_B = (fhir_id("Patient", "HOSPITAL-A", number) for number in ("A", "B"))

SavePhotograph = Callable[..., Any]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"hl7_port": 0, "fhir_identifier_systems": {"HOSPITAL-A": SYSTEM}})


@pytest.fixture
def listener(api: Api) -> Listener:
    return Listener(api.settings, api.pool)


def adt(event: str, *, number: str = "A", prior: str = "", control: str = "MSG1", pid: str = "") -> str:
    segments = [
        f"MSH|^~\\&|PAS|HOSPITAL|SEMBLANCE|CLINIC|2026||ADT^{event}|{control}|P|2.5||||||UNICODE UTF-8",
        "EVN||20260101120000",
        pid or f"PID|1||{number}^^^HOSPITAL-A^MR||Müller^Jörg^K||20190212|M",
    ]
    if prior:
        segments.append(f"MRG|{prior}^^^HOSPITAL-A^MR")
    return "\r".join(segments) + "\r"


def said(answer: bytes) -> list[str]:
    """MSA of an acknowledgement, which another library can read."""
    return [str(field) for field in hl7.parse(answer.decode()).segment("MSA")]


def tell(listener: Listener, message: str) -> list[str]:
    return said(listener.answer(message.encode()))


def of(client: Client, patient: str) -> int:
    return len(client.get(f"Observation?patient={patient}").ids())


@pytest.mark.parametrize("event", ["A08", "A31"])
def test_an_update_makes_and_changes_a_patient(
    listener: Listener,
    client: Client,
    save_photograph: SavePhotograph,
    event: str,
) -> None:
    assert tell(listener, adt(event)) == ["MSA", "AA", "MSG1"]
    save_photograph(1, "A")
    (found,) = client.get(f"Patient?identifier={SYSTEM}|A").json()["entry"]
    resource = found["resource"]
    assert resource["name"][0]["family"] == "Müller"
    assert (resource["birthDate"], resource["gender"]) == ("2019-02-12", "male")
    assert of(client, resource["id"]) == 1
    version = resource["meta"]["versionId"]
    assert tell(listener, adt(event, control="MSG2")) == ["MSA", "AA", "MSG2"]  # the same: nothing new
    assert client.get(f"Patient/{resource['id']}").json()["meta"]["versionId"] == version
    married = adt(event, pid="PID|1||A^^^HOSPITAL-A^MR||Roe^Jane||20190213|F")
    assert tell(listener, married)[1] == "AA"
    assert client.get(f"Patient/{resource['id']}").json()["name"][0]["family"] == "Roe"


@pytest.mark.parametrize("photographs_first", [True, False])
def test_a_merge_moves_what_was_and_what_comes(
    listener: Listener,
    client: Client,
    save_photograph: SavePhotograph,
    *,
    photographs_first: bool,
) -> None:
    if photographs_first:
        save_photograph(1, "A")
        save_photograph(2, "B")
    assert tell(listener, adt("A40", number="B", prior="A"))[1] == "AA"
    if not photographs_first:
        save_photograph(1, "A")
        save_photograph(2, "B")
    save_photograph(3, "A", when="20270101120000")
    for patient in (NUMBER_A, NUMBER_B):
        assert of(client, patient) == 3
    assert client.get(f"Patient?identifier={SYSTEM}|A").ids() == [NUMBER_B]
    assert client.get(f"Patient/{NUMBER_A}").json()["active"] is False
    assert tell(listener, adt("A40", number="B", prior="A"))[1] == "AA"  # again
    assert tell(listener, adt("A40", number="A", prior="B"))[1] == "AA"  # the other way round
    assert client.get(f"Patient?identifier={SYSTEM}|B").ids() == [NUMBER_A]
    assert of(client, NUMBER_A) == 3


def test_a_merge_of_patients_that_the_ehr_wrote(
    listener: Listener,
    client: Client,
    save_photograph: SavePhotograph,
) -> None:
    for name, number in (("one", "A"), ("two", "B")):
        identifier = [{"system": SYSTEM, "value": number}]
        body = {"resourceType": "Patient", "id": name, "identifier": identifier}
        assert client.ask("PUT", f"Patient/{name}", body).status == 201
    save_photograph(1, "A")
    assert tell(listener, adt("A40", number="B", prior="A"))[1] == "AA"
    assert of(client, "two") == 1
    assert client.get("Patient/one").json()["link"][0]["type"] == "replaced-by"
    history = client.get("Patient/one/_history").json()
    assert history["total"] == 2


def test_merges_in_a_chain_and_in_a_circle(
    listener: Listener, client: Client, save_photograph: SavePhotograph, api: Api
) -> None:
    """A chain ends at its last; a circle is one person, and a question for somebody."""
    numbers = {name: fhir_id("Patient", "HOSPITAL-A", name) for name in "ABC"}
    save_photograph(1, "A")
    for survivor, prior in (("B", "A"), ("C", "B")):
        assert tell(listener, adt("A40", number=survivor, prior=prior))[1] == "AA"
    for number, name in enumerate("ABC", start=2):
        save_photograph(number, name, when=f"2027010{number}120000")
    for patient in numbers.values():
        assert of(client, patient) == 4
    assert client.get(f"Patient?identifier={SYSTEM}|A").ids() == [numbers["C"]]
    assert tell(listener, adt("A40", number="A", prior="C"))[1] == "AA"
    with transaction(api.pool) as connection:
        (conflict,) = fhir_persons.open_conflicts(connection)
    assert conflict.kind is ConflictKind.DISPUTED_LINK
    save_photograph(5, "B", when="20280101120000")
    for patient in numbers.values():
        assert of(client, patient) == 5  # nothing is split, and nothing is lost


def test_a_merge_taken_back_after_photographs_came(
    listener: Listener, client: Client, save_photograph: SavePhotograph
) -> None:
    save_photograph(1, "A")
    save_photograph(2, "B")
    assert tell(listener, adt("A40", number="B", prior="A"))[1] == "AA"
    save_photograph(3, "A", when="20270101120000")  # under the old number, while they are one
    assert of(client, NUMBER_A) == of(client, NUMBER_B) == 3
    for patient in (NUMBER_A, NUMBER_B):
        resource = client.get(f"Patient/{patient}").json()
        alone = {key: value for key, value in resource.items() if key not in ("link", "meta")}
        assert client.ask("PUT", f"Patient/{patient}", {**alone, "active": True}).status == 200
    assert of(client, NUMBER_A) + of(client, NUMBER_B) == 3
    assert of(client, NUMBER_B) <= 2  # the third is A's, at the latest when its results are made anew


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (adt("A03"), "not served"),
        (adt("A40", number="B"), "MRG-1"),
        (adt("A08", pid="PID|1||||Doe^Jane"), "PID-3"),
        (adt("A08", pid="PID|1||^^^HOSPITAL-A"), "PID-3"),
        (adt("A40", number="B", prior="A") + "PID|2||C^^^HOSPITAL-A\rMRG|D^^^HOSPITAL-A\r", "one pair"),
        (adt("A08", pid="PID|1||A^^^HOSPITAL-A||Doe||20191399"), "no valid Patient"),
        ("MSH|^~\\&|PAS|H|S|C|2026||ORU^R01|MSG1|P|2.5\rPID|1||A\r", "not served"),
        ("MSH|^~\\&|PAS|H|S|C|2026||ADT^A08|MSG1|P|2.5\r", "MSH and PID"),
        ("MSH|^~\\&|PAS|H|S|C|2026||ADT^A08|MSG1|P|2.5||||||KLINGON\rPID|1||A\r", "MSH-18"),
        ("no HL7 at all", "MSH and PID"),
        ("", "MSH and PID"),
    ],
)
def test_what_cannot_be_followed_is_answered_with_its_reason(
    listener: Listener,
    client: Client,
    message: str,
    reason: str,
) -> None:
    answer = tell(listener, message)
    assert answer[1] == "AE"
    assert reason in answer[3]
    assert client.get("Patient").ids() == []


def test_other_separators_and_latin_letters(listener: Listener, client: Client) -> None:
    header = "MSH#!*%?#PAS#H#S#C#2026##ADT!A08#7#P#2.5######8859/1"
    pid = "PID#1##A!!!HOSPITAL-A?9.9?ISO##M\xfcller!J%S%rg"
    answer = listener.answer(f"{header}\r{pid}\r".encode("latin-1"))
    assert answer.startswith(b"MSH#!*%?#S#C#PAS#H#")
    assert answer.endswith(b"\rMSA#AA#7\r")
    (found,) = client.get(f"Patient?identifier={SYSTEM}|A").json()["entry"]
    assert found["resource"]["name"][0]["family"] == "Müller"


def test_latin_letters_that_nothing_declares_and_lines_that_end_otherwise(
    listener: Listener, client: Client
) -> None:
    for number, end in (("A", b"\n"), ("B", b"\r\n")):
        header = f"MSH|^~\\&|PAS|H|S|C|2026||ADT^A08|{number}|P|2.5".encode()
        pid = f"PID|1||{number}^^^HOSPITAL-A||Müller^Jörg".encode("latin-1")
        assert said(listener.answer(header + end + pid + end)) == ["MSA", "AA", number]
        (found,) = client.get(f"Patient?identifier={SYSTEM}|{number}").json()["entry"]
        assert found["resource"]["name"][0]["family"] == "Müller"


def test_a_merge_of_a_patient_with_several_numbers(
    listener: Listener, client: Client, save_photograph: SavePhotograph
) -> None:
    """Each of the old numbers leads to the survivor, known or not; a number that stays names the survivor."""
    for number, value in enumerate("AB", 1):
        save_photograph(number, value, when=f"2026010{number}120000")
    merge = adt("A40", number="C^^^HOSPITAL-A~M^^^HOSPITAL-A", prior="A^^^HOSPITAL-A~B^^^HOSPITAL-A")
    merge = merge.replace("MRG|", "MRG|M^^^HOSPITAL-A~X^^^HOSPITAL-A~")
    assert tell(listener, merge)[1] == "AA"
    for number, value in enumerate("ABCMX", 3):
        save_photograph(number, value, when=f"2026010{number}120000")
    (survivor,) = client.get("Patient").ids()
    assert survivor == fhir_id("Patient", "HOSPITAL-A", "C")
    assert of(client, survivor) == 7
    assert tell(listener, merge)[1] == "AA"
    assert of(client, survivor) == 7


@pytest.mark.parametrize("numbers", ["A^^^HOSPITAL-A~B^^^HOSPITAL-A", "B^^^HOSPITAL-A~A^^^HOSPITAL-A"])
def test_an_update_that_names_the_old_number_too_is_about_the_survivor(
    listener: Listener, client: Client, save_photograph: SavePhotograph, api: Api, numbers: str
) -> None:
    save_photograph(1, "A")
    save_photograph(2, "B")
    assert tell(listener, adt("A40", number="B", prior="A"))[1] == "AA"
    assert tell(listener, adt("A08", pid=f"PID|1||{numbers}||Roe^Jane"))[1] == "AA"
    assert client.get("Patient").ids() == [NUMBER_B]
    assert client.get(f"Patient/{NUMBER_B}").json()["name"][0]["family"] == "Roe"
    assert of(client, NUMBER_A) == of(client, NUMBER_B) == 2
    with transaction(api.pool) as connection:
        assert fhir_persons.open_conflicts(connection) == []


def test_a_number_of_a_stay_is_nobodys(
    listener: Listener, client: Client, save_photograph: SavePhotograph
) -> None:
    """Bills and stays are numbered in the namespace of the patients: number A may be somebody else's."""
    save_photograph(1, "A")
    pid = "PID|1||B^^^HOSPITAL-A^MR~A^^^HOSPITAL-A^AN~A^^^HOSPITAL-A^VN||Roe^Jane"
    assert tell(listener, adt("A08", pid=pid))[1] == "AA"
    assert set(client.get("Patient").ids()) == {NUMBER_A, NUMBER_B}
    assert of(client, NUMBER_B) == 0
    assert tell(listener, adt("A08", pid="PID|1||A^^^HOSPITAL-A^AN||Roe"))[1] == "AE"


def test_without_the_database_nothing_is_acknowledged(api: Api) -> None:
    away = api.settings.model_copy(
        update={"database_url": "postgresql://nobody@127.0.0.1:1/none", "database_timeout_s": 0.5}
    )
    with open_pool(away) as pool:
        answer = tell(Listener(away, pool), adt("A08"))
    assert answer[:2] == ["MSA", "AE"]
    assert "send it again" in answer[3]


def test_messages_over_a_socket_are_answered_one_by_one(listener: Listener, client: Client) -> None:
    async def talk() -> list[str]:
        port = await listener.start()
        reader, writer = await open_hl7_connection("127.0.0.1", port, encoding="utf-8")
        answers = []
        for number in ("A", "B"):
            writer.writemessage(hl7.parse(adt("A08", number=number, control=number)))
            await writer.drain()
            answers.append(str((await reader.readmessage()).segment("MSA")))
        writer.write(b"no start block\x1c\r")  # the connection ends, the listener does not
        await writer.drain()
        assert await reader.read() == b""
        writer.close()
        reader, writer = await open_hl7_connection("127.0.0.1", port, encoding="utf-8")
        writer.writemessage(hl7.parse(adt("A40", number="B", prior="A", control="C")))
        answers.append(str((await reader.readmessage()).segment("MSA")))
        writer.close()
        await listener.stop()
        return answers

    assert asyncio.run(talk()) == ["MSA|AA|A", "MSA|AA|B", "MSA|AA|C"]
    assert client.get("Patient").ids() == [NUMBER_B]


def test_it_does_not_listen_to_everybody(api: Api) -> None:
    wide = api.settings.model_copy(update={"hl7_host": "0.0.0.0"})  # noqa: S104
    with pytest.raises(ConfigurationError, match="hl7_networks"):
        Listener(wide, api.pool)
    narrow = wide.model_copy(update={"hl7_networks": ("10.1.0.0/16",)})

    async def talk() -> bytes:
        listening = Listener(replace(api, settings=narrow).settings, api.pool)
        port = await listening.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        read = await reader.read()
        writer.close()
        await listening.stop()
        return read

    assert asyncio.run(talk()) == b""
