"""Which Patients are one person: worked out anew from what the Patients themselves say, at every change.

A Patient leads to at most one other, the one that stands for it:

1. the one it names by a link ``replaced-by``, or that names it by a link ``replaces``;
2. a Patient made of a photograph's number leads to the EHR's Patient that has this number;
3. a Patient of the EHR leads to another that has one of its numbers as an old one, or has all of its
   numbers and more.

Where these lead to more than one, nobody is moved, and the question is noted. Nothing is kept of how a
group came about: an update that takes the link or the number away takes the group apart again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.persons import ConflictKind
from reporting.fhir.database.records import StoredResource
from reporting.fhir.extract import split_reference
from reporting.fhir.render import loads
from reporting.fhir.site import Site
from service.database.pool import Connection

AUTHOR = "semblance"
REPLACED_BY, REPLACES = "replaced-by", "replaces"
_MOST_STEPS = 100  # from a Patient to the one that stands for it

Identifier = tuple[str, str]  # system, value


@dataclass(frozen=True, kw_only=True)
class Change:
    """A Patient that another stands for now than before."""

    patient: str
    before: str  # who stood for it
    after: str  # who stands for it


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a Patient says of itself."""

    is_known: bool  # there is such a Patient, or a photograph came under its number
    is_ours: bool  # made of a photograph's number, not written by the EHR
    identifiers: Mapping[Identifier, str]  # with their use
    replaced_by: tuple[str, ...]
    replaces: tuple[str, ...]


def identifiers_of(resource: Mapping[str, Any]) -> dict[Identifier, str]:
    """The identifiers of a Patient that say who issued them, with their use."""
    found = {}
    for each in resource.get("identifier", []):
        system, value = str(each.get("system", "")), str(each.get("value", ""))
        if system and value:
            found[system, value] = str(each.get("use", ""))
    return found


def _linked(resource: Mapping[str, Any], kind: str, site: Site) -> tuple[str, ...]:
    found = []
    for link in resource.get("link", []):
        target = split_reference(str(link.get("other", {}).get("reference", "#")), site)
        if link.get("type") == kind and target is not None and target[0] == "Patient":
            found.append(target[1])
    return tuple(found)


@dataclass(kw_only=True)
class Grouping:
    """Works out who is whom, within one transaction that holds ``fhir_persons.lock``.

    Args:
        connection: In the transaction.
        site: Of this server, to tell links to its own Patients.
    """

    connection: Connection
    site: Site
    disputes: dict[tuple[ConflictKind, str], tuple[str, ...]] = field(default_factory=dict)
    _known: dict[str, _Said] = field(default_factory=dict)
    _next: dict[str, str | None] = field(default_factory=dict)

    def regroup(self, patients: Iterable[str], identifiers: Iterable[Identifier] = ()) -> list[Change]:
        """Work out the groups that changed Patients are and were in, and keep them.

        Args:
            patients: Whose row, links or identifiers changed.
            identifiers: That they had before.

        Returns:
            Every Patient that another stands for now.
        """
        concerned = self._concerned(set(patients), set(identifiers))
        before = fhir_persons.persons_of(self.connection, concerned)
        after = {patient: self._end(patient) for patient in sorted(concerned)}
        fhir_persons.set_persons(self.connection, after)
        self._note_disputes(concerned)
        return [
            Change(patient=patient, before=before[patient], after=person)
            for patient, person in after.items()
            if before[patient] != person
        ]

    def _concerned(self, changed: set[str], identifiers: set[Identifier]) -> set[str]:
        """Whoever may be led elsewhere: those that share a number or a link, and all of their groups."""
        for patient in list(changed):
            said = self._said(patient)
            identifiers |= set(said.identifiers)
            changed |= {*said.replaced_by, *said.replaces, *fhir_persons.linking(self.connection, patient)}
        changed |= set(fhir_persons.numbers_of(self.connection, identifiers))
        changed |= set(fhir_persons.claimants(self.connection, identifiers))
        groups = fhir_persons.members_of(self.connection, changed)
        return {each for every in groups.values() for each in every}

    def _said(self, patient: str) -> _Said:
        if patient not in self._known:
            stored = fhir_resources.read(self.connection, "Patient", patient)
            author = fhir_persons.author_of(self.connection, patient)
            number = fhir_persons.number_of(self.connection, patient)
            self._known[patient] = self._of(stored, author, number)
        return self._known[patient]

    def _of(self, stored: StoredResource | None, author: str | None, number: Identifier | None) -> _Said:
        own = {number: "usual"} if number is not None and all(number) else {}
        if stored is None or author == AUTHOR:  # what we wrote into links follows from the groups
            is_known = stored is not None or number is not None
            return _Said(is_known=is_known, is_ours=True, identifiers=own, replaced_by=(), replaces=())
        resource = loads(stored.body)
        return _Said(
            is_known=True,
            is_ours=False,
            identifiers=own | identifiers_of(resource),
            replaced_by=_linked(resource, REPLACED_BY, self.site),
            replaces=_linked(resource, REPLACES, self.site),
        )

    def _end(self, patient: str) -> str:
        """The Patient that stands for a Patient."""
        passed = [patient]
        while (following := self._leads_to(passed[-1])) is not None:
            if following in passed or len(passed) > _MOST_STEPS:
                circle = passed[passed.index(following) :] if following in passed else passed
                self.disputes[ConflictKind.DISPUTED_LINK, min(circle)] = tuple(sorted(circle))
                return min(circle)
            passed.append(following)
        return passed[-1]

    def _leads_to(self, patient: str) -> str | None:
        if patient not in self._next:
            self._next[patient] = None  # who asks again meanwhile is in a circle
            self._next[patient] = self._found(patient)
        return self._next[patient]

    def _found(self, patient: str) -> str | None:
        said = self._said(patient)
        others = {*said.replaced_by} | {
            each
            for each in fhir_persons.linking(self.connection, patient)
            if patient in self._said(each).replaces
        }
        # a link to who is not here yet counts from the moment they are: nobody is found under nothing
        others = {each for each in others if each != patient and self._said(each).is_known}
        if others:
            return self._one_of(patient, others, ConflictKind.DISPUTED_LINK)
        claimants = {
            each
            for each in fhir_persons.claimants(self.connection, said.identifiers)
            if each != patient and not self._said(each).is_ours
        }
        if not said.is_ours:
            claimants = {each for each in claimants if self._takes_over(each, patient)}
        if claimants:
            return self._one_of(patient, claimants, ConflictKind.DISPUTED_NUMBER)
        if said.is_ours:  # two issuers that the settings say are one
            same = [
                each for each in fhir_persons.numbers_of(self.connection, said.identifiers) if each < patient
            ]
            return same[0] if same else None
        return None

    def _takes_over(self, other: str, patient: str) -> bool:
        """Whether another Patient of the EHR says it is what this one was."""
        own, others = self._said(patient).identifiers, self._said(other).identifiers
        shared = own.keys() & others.keys()
        if any(others[each] == "old" and own[each] != "old" for each in shared):
            return True
        if any(own[each] == "old" and others[each] != "old" for each in shared):
            return False
        if own.keys() == others.keys() or not (own.keys() < others.keys() or others.keys() < own.keys()):
            self.disputes[ConflictKind.DISPUTED_NUMBER, min(patient, other)] = tuple(sorted((patient, other)))
        return own.keys() < others.keys()

    def _one_of(self, patient: str, others: set[str], kind: ConflictKind) -> str | None:
        """The one that all lead to; where they lead to several, the one of now if it still claims."""
        ends = {each: self._end(each) for each in sorted(others)}
        if len(set(ends.values())) == 1:
            return min(ends)
        self.disputes[kind, patient] = (patient, *sorted(others))
        now = fhir_persons.person_of(self.connection, patient)
        kept = [each for each, end in ends.items() if now in (each, end) and now != patient]
        return kept[0] if kept else None

    def _note_disputes(self, concerned: set[str]) -> None:
        for (kind, subject), patients in self.disputes.items():
            fhir_persons.note_conflict(self.connection, kind, subject, patients)
        for kind in (ConflictKind.DISPUTED_LINK, ConflictKind.DISPUTED_NUMBER):
            for patient in concerned:
                if (kind, patient) not in self.disputes:
                    fhir_persons.resolve_conflict(self.connection, kind, patient)
