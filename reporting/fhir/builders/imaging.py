"""ImagingStudy and Media: the study, the photograph, the heatmap."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reporting.dicom.context import ReportContext, ResultObject
from reporting.fhir.builders.subject import Owner
from reporting.fhir.elements import (
    ASSERTED_BY_AI,
    DICOM_UID_SYSTEM,
    SHA_256_SYSTEM,
    V2_0203,
    Element,
    codeable,
    coded,
    date_time,
    issued,
    reference,
    unknown_primitive,
    without_empty,
)
from reporting.identifiers import fhir_id
from reporting.terminology import DCM, FACE, PHOTOGRAPHY_OF_PATIENT, SALIENCY

HEATMAP_TITLE = "Heatmap of facial difference"
TRIPTYCH_TITLE = "Photograph, normal counterpart and heatmap of facial difference"
_MEDIA_TYPE = "http://terminology.hl7.org/CodeSystem/media-type"
_URI = "urn:ietf:rfc:3986"
_CONNECTION_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"


def media_id(sop_instance_uid: str) -> str:
    """Logical id of the Media of a DICOM instance."""
    return fhir_id("Media", sop_instance_uid)


def instance_url(dicomweb_url: str, study_uid: str, series_uid: str, sop_uid: str) -> str:
    """Where an instance is retrieved (PS3.18 section 10.4), or its UID as a URN without a DICOMweb server."""
    if not dicomweb_url:
        return f"urn:oid:{sop_uid}"
    return f"{dicomweb_url.rstrip('/')}/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}"


def build_study(
    context: ReportContext, objects: Sequence[ResultObject], owner: Owner, dicomweb_url: str = ""
) -> Element:
    """Make the ImagingStudy as far as this photograph and its results are part of it.

    Args:
        context: The photograph and its appraisal.
        objects: Result objects made of it.
        owner: Whose it is.
        dicomweb_url: Base URL of the DICOMweb service it is retrieved from, "" when there is none.
    """
    identity = context.source.identity
    source = _series(
        uid=identity.series_instance_uid,
        modality=identity.modality or "OT",
        number=identity.series_number,
        description=identity.series_description,
        sop_class=identity.sop_class_uid,
        sop_uid=identity.sop_instance_uid,
        instance=identity.instance_number,
    )
    results = [
        _series(
            uid=result.series_instance_uid,
            modality=result.modality,
            number=result.series_number,
            description=result.series_description,
            sop_class=result.sop_class_uid,
            sop_uid=result.sop_instance_uid,
            instance=result.instance_number,
        )
        for result in objects
    ]
    accession = (
        [{"type": coded(V2_0203, "ACSN", "Accession ID"), "value": identity.accession_number}]
        if identity.accession_number
        else []
    )
    whole: Element = {
        "resourceType": "ImagingStudy",
        "id": owner.study,
        "contained": [_wado(dicomweb_url)] if dicomweb_url else [],
        "endpoint": [{"reference": "#wado"}] if dicomweb_url else [],
        "identifier": [
            {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{identity.study_instance_uid}"},
            *accession,
        ],
        "status": "available",
        "subject": reference("Patient", owner.patient),
        "started": date_time(identity.study_at, identity.study_date),
        "description": identity.study_description,
        "series": [source],
    }
    for result in results:
        whole["series"] = _merged_series([*whole["series"], result])
    return merge_study(None, without_empty(whole))


def _wado(dicomweb_url: str) -> Element:
    """The Endpoint that instances are retrieved from, each at /studies/.../series/.../instances/..."""
    return {
        "resourceType": "Endpoint",
        "id": "wado",
        "status": "active",
        "connectionType": {"system": _CONNECTION_TYPE, "code": "dicom-wado-rs"},
        "payloadType": [{"text": "DICOM instances, frames and rendered pictures"}],
        "payloadMimeType": ["application/dicom", "image/jpeg", "image/png"],
        "address": dicomweb_url,
    }


def merge_study(current: Mapping[str, Any] | None, new: Element) -> Element:
    """Add a photograph's part to the ImagingStudy as it is; nothing is taken out."""
    if current is not None and current["status"] != new["status"]:  # all it had was moved elsewhere
        current = None
    series = _merged_series([*(current or {}).get("series", []), *new["series"]])
    modalities = sorted({entry["modality"]["code"] for entry in series})
    merged = {**new, **(current or {}), "series": series}  # what is there stays: no version without news
    merged["modality"] = [{"system": DCM.uri, "code": code} for code in modalities]
    merged["numberOfSeries"] = len(series)
    merged["numberOfInstances"] = sum(entry["numberOfInstances"] for entry in series)
    return merged


def without_instances(current: Mapping[str, Any], uids: Collection[str]) -> Element:
    """The ImagingStudy without some instances; ``entered-in-error`` when none is left."""
    series = []
    for each in current.get("series", []):
        kept = [instance for instance in each["instance"] if instance["uid"] not in uids]
        if kept:
            series.append({**each, "instance": kept, "numberOfInstances": len(kept)})
    if not series:
        rest = {key: value for key, value in current.items() if key != "series"}
        return {**rest, "status": "entered-in-error", "numberOfSeries": 0, "numberOfInstances": 0}
    modalities = sorted({each["modality"]["code"] for each in series})
    return {
        **current,
        "series": series,
        "modality": [{"system": DCM.uri, "code": code} for code in modalities],
        "numberOfSeries": len(series),
        "numberOfInstances": sum(each["numberOfInstances"] for each in series),
    }


def _merged_series(entries: Sequence[Element]) -> list[Element]:
    by_uid: dict[str, Element] = {}
    for entry in entries:
        known = by_uid.get(entry["uid"])
        if known is None:
            by_uid[entry["uid"]] = entry
            continue
        instances = {i["uid"]: i for i in (*known["instance"], *entry["instance"])}
        ordered = [instances[uid] for uid in sorted(instances)]
        by_uid[entry["uid"]] = {**known, "instance": ordered, "numberOfInstances": len(ordered)}
    return [by_uid[uid] for uid in sorted(by_uid)]


def _series(
    *,
    uid: str,
    modality: str,
    number: int | None,
    description: str,
    sop_class: str,
    sop_uid: str,
    instance: int | None,
) -> Element:
    return without_empty(
        {
            "uid": uid,
            "number": number if number is not None and number >= 0 else None,
            "modality": {"system": DCM.uri, "code": modality},
            "description": description,
            "numberOfInstances": 1,
            "bodySite": codeable(FACE)["coding"][0],
            "instance": [
                without_empty(
                    {
                        "uid": sop_uid,
                        "sopClass": {"system": _URI, "code": f"urn:oid:{sop_class}"},
                        "number": instance if instance is not None and instance >= 0 else None,
                    }
                )
            ],
        }
    )


def build_photograph(context: ReportContext, patient: str, dicomweb_url: str) -> Element:
    """Make the Media of the photograph.

    Args:
        context: The photograph and its appraisal.
        patient: Logical id of the Patient.
        dicomweb_url: Base URL of the archive's DICOMweb service, "" when there is none.
    """
    identity = context.source.identity
    created = date_time(identity.acquired_at, identity.acquired_on)
    url = instance_url(
        dicomweb_url, identity.study_instance_uid, identity.series_instance_uid, identity.sop_instance_uid
    )
    return without_empty(
        {
            "resourceType": "Media",
            "id": media_id(identity.sop_instance_uid),
            "identifier": [
                {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{identity.sop_instance_uid}"},
                {"system": SHA_256_SYSTEM, "value": context.saved.appraisal.pixel_sha256},
            ]
            if context.saved.appraisal.pixel_sha256
            else [{"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{identity.sop_instance_uid}"}],
            "status": "completed",
            "type": coded(_MEDIA_TYPE, "image", "Image"),
            "modality": codeable(PHOTOGRAPHY_OF_PATIENT),
            "subject": reference("Patient", patient),
            "createdDateTime": created,
            "_createdDateTime": None if created else unknown_primitive(),
            "bodySite": codeable(FACE),
            "deviceName": " ".join(p for p in (identity.manufacturer, identity.manufacturer_model_name) if p),
            "height": identity.rows or None,
            "width": identity.columns or None,
            "frames": identity.number_of_frames if identity.number_of_frames > 1 else None,
            "content": {"contentType": "application/dicom", "url": url},
        }
    )


def _picture_note(dicomweb_url: str, instance: str) -> list[Element]:
    return [{"text": f"Rendered: {instance}/rendered"}] if dicomweb_url else []


def build_heatmap(
    context: ReportContext,
    result: ResultObject,
    *,
    patient: str,
    device: str,
    dicomweb_url: str,
    title: str = HEATMAP_TITLE,
) -> Element:
    """Make the Media of the heatmap, which EHRs show as a picture.

    Args:
        context: The photograph and its appraisal.
        result: The Secondary Capture.
        patient: Logical id of the Patient.
        device: Logical id of the Device that made it.
        dicomweb_url: Base URL of the archive's DICOMweb service, "" when there is none.
        title: What the picture shows, for people.
    """
    identity, saved = context.source.identity, context.saved
    dicom = instance_url(
        dicomweb_url, identity.study_instance_uid, result.series_instance_uid, result.sop_instance_uid
    )
    picture = f"Binary/{saved.appraisal.appraisal_id}"
    return {
        "resourceType": "Media",
        "id": media_id(result.sop_instance_uid),
        "meta": {"security": [ASSERTED_BY_AI]},
        "identifier": [
            {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{result.sop_instance_uid}"},
            {"system": SHA_256_SYSTEM, "value": saved.heatmap_sha256},
        ],
        "status": "completed",
        "type": coded(_MEDIA_TYPE, "image", "Image"),
        "modality": codeable(SALIENCY),
        "subject": reference("Patient", patient),
        "createdDateTime": issued(saved.created_at),
        "bodySite": codeable(FACE),
        "device": reference("Device", device),
        "content": {
            "contentType": "image/png",
            "url": picture,
            "title": title,
            "creation": issued(saved.created_at),
        },
        "note": [{"text": f"As DICOM: {dicom}"}, *_picture_note(dicomweb_url, dicom)],
    }
