"""One photograph: what it shows, what was found, where that comes from, who saw it, and what can be done."""

from __future__ import annotations

from uuid import UUID

from reporting.dicomweb.problem import DicomwebError
from reporting.fhir.audit import withdrawal
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import draft_of
from reporting.fhir.write.withdrawal import withdraw as take_back
from reporting.holdings.database import holdings
from reporting.identifiers import observation_id_of
from reporting.outcomes.database.photographs import withdrawn_of
from reporting.web import pictures
from reporting.web.database import viewing
from reporting.web.opening import Opened, photograph_of
from reporting.web.page import Moved, PageProblemError, Seen, Sent, Shown, Visit
from reporting.web.people import Need
from service.database import appraisals, dead_letters, instances, ledger
from service.database.delivery import deliveries
from service.database.pool import Connection, transaction
from service.errors import RecordNotFoundError, StorageError, StoredMapError, UnknownStepError
from service.pipeline.again.retry import retry_instance
from service.records import InstanceState, QualityMeasures, SavedAppraisal

_PICTURES_S = 3600
_LEAST_REASON = 4  # letters

# Measures of quality as they are shown: name, unit, digits.
_MEASURES = {
    "inter_ocular_px": ("Distance of the eyes", "px", 0),
    "yaw_deg": ("Turned to the side", "°", 1),
    "pitch_deg": ("Turned up", "°", 1),
    "roll_deg": ("Tilted", "°", 1),
    "blur_percent": ("Blur", "% of the distance of the eyes", 2),
    "exposure_ev": ("Exposure", "EV", 2),
    "light_asymmetry_ev": ("Light from one side", "EV", 2),
    "noise_sigma": ("Noise", "of 255", 1),
    "jpeg_quality": ("JPEG quality", "of 100", 0),
    "clipped_fraction": ("Clipped", "of the face", 3),
    "occluded_fraction": ("Covered", "of the face", 2),
}


def photograph(visit: Visit) -> Shown:
    """``/photographs/{uid}``."""
    api = visit.api
    with transaction(api.pool) as connection:
        opened = photograph_of(connection, visit)
        instance = opened.instance
        results = appraisals.for_instance(connection, instance.instance_id)
        ids = [observation_id_of(str(each.appraisal.appraisal_id)) for each in results]
        taken_back = withdrawn_of(connection, ids)
        held = holdings.by_uid(connection, instance.sop_instance_uid)
        facts = {
            "deliveries": deliveries.for_instance(connection, instance.instance_id),
            "ledger": ledger.chain(connection, instance.sop_instance_uid),
            "viewers": viewing.viewers(connection, instance.sop_instance_uid),
            "dead": [
                each for each in dead_letters.all_open(connection) if each.instance_id == instance.instance_id
            ],
            "patient_name": viewing.patient_name(connection, instance.sop_instance_uid),
        }
    shown = _chosen(results, visit.query.get("result", ""))
    facts |= {
        "instance": instance,
        "patient": opened.patient,
        "results": results,
        "shown": shown,
        "taken_back": {each for each, name in zip(results, ids, strict=True) if name in taken_back},
        "observation_ids": dict(zip(results, ids, strict=True)),
        "measures": _measures(shown.appraisal.quality) if shown else [],
        "has_painted": pictures.is_painted(api, instance.sha256, shown),
        "has_counterpart": pictures.has_counterpart(api, shown),
        "has_picture": held is not None and held.number_of_frames > 0,
        "may_withdraw": visit.visitor.may(Need.WITHDRAW) and shown is not None,
        "may_retry": visit.visitor.may(Need.SYSTEM) and instance.state is InstanceState.DEAD,
        "fhir_url": api.base_url,
        "dicomweb_url": api.settings.dicomweb_base_url(),
    }
    seen = Seen(
        patients=(opened.patient,),
        photographs=(instance.sop_instance_uid,),
        resources=tuple(f"Observation/{each}" for each in ids),
        purpose=opened.purpose,
    )
    return Shown(template="photograph.html", facts=facts, seen=seen)


def _chosen(results: list[SavedAppraisal], wanted: str) -> SavedAppraisal | None:
    """The result that is asked for, else the newest."""
    named = [each for each in results if str(each.appraisal.appraisal_id) == wanted]
    return next(iter(named or results), None)


def _measures(quality: QualityMeasures) -> list[tuple[str, float, str, int]]:
    """What was measured: name, value, unit, digits."""
    return [
        (said, value, unit, digits)
        for name, (said, unit, digits) in _MEASURES.items()
        if (value := getattr(quality, name)) is not None
    ]


def picture(visit: Visit) -> Sent:
    """``/photographs/{uid}/pictures/{kind}``: photograph, painted, legend or counterpart.

    Raises:
        PageProblemError: 404: there is no such picture.
    """
    api, kind = visit.api, visit.parameters["kind"]
    with transaction(api.pool) as connection:
        opened = photograph_of(connection, visit)
        results = appraisals.for_instance(connection, opened.instance.instance_id)
    saved = _chosen(results, visit.query.get("result", ""))
    try:
        made = _picture(visit, opened, saved, kind)
    except (DicomwebError, StorageError, StoredMapError) as exc:
        raise PageProblemError(404, "There is no such picture.") from exc
    return Sent(body=made, media_type="image/jpeg", keep_s=_PICTURES_S)


def _picture(visit: Visit, opened: Opened, saved: SavedAppraisal | None, kind: str) -> bytes:
    api, sha256 = visit.api, opened.instance.sha256
    if kind == "photograph":
        return pictures.photograph(api, sha256, pictures.LARGE)
    if saved is not None and kind == "painted":
        return pictures.painted(api, sha256, saved)
    if saved is not None and kind == "legend":
        return pictures.legend(api, sha256, saved)
    if saved is not None and kind == "counterpart":
        return pictures.counterpart(api, saved)
    raise PageProblemError(404, "There is no such picture.")


def retry(visit: Visit) -> Moved:
    """``/photographs/{uid}/retry``: take up what was given up.

    Raises:
        PageProblemError: 404, 409: there is nothing to take up.
    """
    uid = visit.parameters["uid"]
    with transaction(visit.api.pool) as connection:
        instance = instances.by_uid(connection, uid)
        if instance is None:
            raise PageProblemError(404, "There is no such photograph.")
        try:
            step = retry_instance(connection, instance.instance_id)
        except (RecordNotFoundError, UnknownStepError) as exc:
            raise PageProblemError(409, "It was not given up, or it was taken up meanwhile.") from exc
    seen = Seen(photographs=(uid,), note=f"taken up again: {step.task}")
    back = f"/photographs/{uid}" if visit.visitor.may(Need.PATIENTS) else "/worklist?show=dead"
    return Moved(path=back, seen=seen)


def withdraw(visit: Visit) -> Moved:
    """``/photographs/{uid}/withdraw``: take a result back, with the reason.

    Raises:
        PageProblemError: 400: no reason; 404: no such result; 409: it is not reported yet.
    """
    reason = visit.form.get("reason", "")
    with transaction(visit.api.pool) as connection:
        opened = photograph_of(connection, visit)
        results = appraisals.for_instance(connection, opened.instance.instance_id)
        wanted = [each for each in results if str(each.appraisal.appraisal_id) == visit.form.get("result")]
        if not wanted:
            raise PageProblemError(404, "There is no such result.")
        if len(reason) < _LEAST_REASON:
            raise PageProblemError(400, "Say why the result is taken back.")
        name = _take_back(connection, visit, wanted[0].appraisal.appraisal_id, reason)
    seen = Seen(
        patients=(opened.patient,),
        photographs=(opened.instance.sop_instance_uid,),
        resources=(f"Observation/{name}",),
        purpose=opened.purpose,
        note=f"result withdrawn: {reason}",
    )
    return Moved(path=f"/photographs/{opened.instance.sop_instance_uid}", seen=seen)


def _take_back(connection: Connection, visit: Visit, appraisal_id: UUID, reason: str) -> str:
    """Withdraw in this transaction; returns the logical id of the Observation."""
    api, who = visit.api, visit.visitor.name
    name = observation_id_of(str(appraisal_id))
    try:
        saved = take_back(connection, name, reason=reason, who=who, settings=api.settings)
    except RecordNotFoundError as exc:
        raise PageProblemError(409, "The result is not reported yet. Try again in a moment.") from exc
    stored = fhir_resources.read(connection, "Observation", name)
    done = "withdrawn" if saved else "withdrawn before"
    command = f"dashboard: withdraw {appraisal_id}, {reason}"
    event = withdrawal([name], stored.patient if stored else None, who, command, done)
    fhir_resources.save(connection, [draft_of(event, site=api.site)], author="semblance")
    return name
