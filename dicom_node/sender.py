"""Who is at the other end of an association."""

from __future__ import annotations

from dataclasses import dataclass

from pynetdicom.association import Association


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Who sends."""

    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    association_id: str = ""  # ties its line in the ledger to those of what came by it

    def detail(self) -> dict[str, str]:
        """For ledger and log."""
        return {
            "calling_ae_title": self.calling_ae_title,
            "called_ae_title": self.called_ae_title,
            "peer_address": self.peer_address,
            **({"association": self.association_id} if self.association_id else {}),
        }


def sender_of(association: Association) -> Sender:
    """Who is at the other end of an association, by the names its request meant."""
    meant = getattr(association.dul, "asked", None)  # of StreamingDul; pynetdicom's has none
    request = meant or association.requestor.primitive
    return Sender(
        calling_ae_title=printable(request.calling_ae_title if request is not None else ""),
        called_ae_title=printable(request.called_ae_title if request is not None else ""),
        peer_address=association.requestor.address or "",
        association_id=getattr(association, "identifier", ""),  # of NodeAssociation; pynetdicom's has none
    )


def printable(text: str, limit: int = 64) -> str:
    """Text from the network made fit for a log line or a row."""
    return "".join(c if c.isprintable() else "?" for c in text.strip()[:limit])
