"""Who looks at pages, and what they may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What a user is."""

    CLINICIAN = "clinician"  # looks at patients, takes results back
    QUALITY = "quality"  # looks at charts and at the patients behind them, decides conflicts and phases
    AUDITOR = "auditor"  # reads who did what; sees no patient
    ADMIN = "admin"  # keeps it running; sees no patient


class Need(StrEnum):
    """What a page needs its reader to be allowed."""

    WORK = "work"  # numbers and lists of the work, by UID
    PATIENTS = "patients"  # names and photographs
    WITHDRAW = "withdraw"  # take a result back
    CHARTS = "charts"
    DECIDE = "decide"  # conflicts, phases, notes on charts
    AUDIT = "audit"  # the ledger and the AuditEvents
    SYSTEM = "system"  # destinations, queues, models; retry


ALLOWED: Mapping[Role, frozenset[Need]] = MappingProxyType(
    {
        Role.CLINICIAN: frozenset({Need.WORK, Need.PATIENTS, Need.WITHDRAW, Need.CHARTS}),
        Role.QUALITY: frozenset({Need.WORK, Need.PATIENTS, Need.CHARTS, Need.DECIDE}),
        Role.AUDITOR: frozenset({Need.WORK, Need.CHARTS, Need.AUDIT}),
        Role.ADMIN: frozenset({Need.WORK, Need.SYSTEM}),
    }
)


class Way(StrEnum):
    """How somebody came to be known."""

    PASSCODE = "passcode"
    MACHINE = "machine"  # no login is configured: whoever sits at this machine
    OIDC = "oidc"  # by the hospital's own login


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Somebody who is logged in."""

    name: str  # what they log in by
    full_name: str
    roles: frozenset[Role]
    way: Way

    def may(self, need: Need) -> bool:
        """Whether one of their roles allows it."""
        return any(need in ALLOWED[role] for role in self.roles)


def roles_of(names: Iterable[str]) -> frozenset[Role]:
    """Roles by their names; names that are none of ours count for nothing."""
    known = {role.value: role for role in Role}
    return frozenset(known[name] for name in names if name in known)
