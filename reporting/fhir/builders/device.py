"""Device of a method: one per model version, weights, settings and calibration."""

from __future__ import annotations

import service
from reporting.dicom.context import MANUFACTURER, device_uid
from reporting.fhir.elements import (
    ARTIFICIAL_INTELLIGENCE_ROLE,
    DICOM_UID_SYSTEM,
    SHA_256_SYSTEM,
    Element,
    coding,
    without_empty,
)
from reporting.identifiers import fhir_id
from reporting.terminology import ARTIFICIAL_INTELLIGENCE
from service.records import MethodIdentity


def device_id(method: MethodIdentity) -> str:
    """Logical id."""
    return fhir_id("Device", device_uid(method))


def build_device(method: MethodIdentity) -> Element:
    """Make the Device."""
    versions = [
        {"type": {"text": "software"}, "value": service.__version__},
        {"type": {"text": "method"}, "value": f"{method.name} {method.version}"},
        {"type": {"text": "normaliser"}, "value": method.normaliser},
        {"type": {"text": "comparator"}, "value": method.comparator},
        {"type": {"text": "settings sha-256"}, "value": method.config_sha256},
    ]
    if method.weights_sha256:
        versions.append({"type": {"text": "weights sha-256"}, "value": method.weights_sha256})
    if method.calibration:
        versions.append({"type": {"text": "calibration"}, "value": method.calibration})
    identifiers = [{"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{device_uid(method)}"}]
    if method.weights_sha256:
        identifiers.append({"system": SHA_256_SYSTEM, "value": method.weights_sha256})
    return without_empty(
        {
            "resourceType": "Device",
            "id": device_id(method),
            "identifier": identifiers,
            "status": "active",
            "manufacturer": MANUFACTURER,
            "deviceName": [
                {"name": f"Semblance {method.name} {method.version}", "type": "manufacturer-name"}
            ],
            "modelNumber": f"{method.name} {method.version}",
            "type": {"coding": [coding(ARTIFICIAL_INTELLIGENCE), ARTIFICIAL_INTELLIGENCE_ROLE]},
            "version": versions,
            "safety": [
                {"text": "Decision support; not a diagnosis. See the intended use in the documentation."}
            ],
        }
    )
