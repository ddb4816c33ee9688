"""The API's fixtures serve the HL7 listener too."""

from __future__ import annotations

from tests.integration.reporting.fhir.conftest import api, client, save, save_photograph

__all__ = ["api", "client", "save", "save_photograph"]
