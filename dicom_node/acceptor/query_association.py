"""Associations of the node that take queries beside C-STORE."""

from __future__ import annotations

from typing import Any

from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE

from dicom_node.acceptor.association import NodeAssociation
from dicom_node.query.provider import QueryProvider


class QueryAssociation(NodeAssociation):
    """An acceptor association whose queries and retrievals go to a provider."""

    queries: QueryProvider | None = None

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """Serve one request; those that are not ours go to pynetdicom's services."""
        context = self._accepted_cx.get(context_id)
        ours = isinstance(msg, C_FIND | C_MOVE | C_GET) and msg.is_valid_request
        if self.queries is None or context is None or not ours or self._sent_release:
            super()._serve_request(msg, context_id)
            return
        self.dimse.cancel_req = {}
        self._is_paused = True  # the reactor: this thread may send C-STOREs of its own
        try:
            self.queries.serve(self, msg, context)
        finally:
            self._is_paused = False
            self.dimse.cancel_req = {}
