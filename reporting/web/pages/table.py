"""Every page, with who may see it. A page is a module with its handlers, its template and its rows here."""

from __future__ import annotations

from reporting.web.page import Deed, Page
from reporting.web.pages import cohorts, decisions, patient, photograph, start, system, trail, worklist
from reporting.web.people import Need

PAGES: tuple[Page, ...] = (
    Page(path="/", need=Need.WORK, handler=start.start, title="Today"),
    Page(path="/worklist", need=Need.WORK, handler=worklist.worklist, title="Photographs"),
    Page(path="/thumbnails/{uid}", need=Need.PATIENTS, handler=worklist.thumbnail),
    Page(path="/find", need=Need.PATIENTS, handler=worklist.find, method="POST"),
    Page(path="/patients/{patient}", need=Need.PATIENTS, handler=patient.patient, deed=Deed.VIEW),
    Page(path="/photographs/{uid}", need=Need.PATIENTS, handler=photograph.photograph, deed=Deed.VIEW),
    Page(path="/photographs/{uid}/pictures/{kind}", need=Need.PATIENTS, handler=photograph.picture),
    Page(
        path="/photographs/{uid}/retry",
        need=Need.SYSTEM,
        handler=photograph.retry,
        method="POST",
        deed=Deed.ACT,
    ),
    Page(
        path="/photographs/{uid}/withdraw",
        need=Need.WITHDRAW,
        handler=photograph.withdraw,
        method="POST",
        deed=Deed.ACT,
    ),
    Page(path="/cohorts", need=Need.CHARTS, handler=cohorts.cohorts, title="Outcomes"),
    Page(path="/cohorts", need=Need.CHARTS, handler=cohorts.save, method="POST", deed=Deed.ACT),
    Page(path="/cohorts/{cohort}", need=Need.CHARTS, handler=cohorts.cohort),
    Page(path="/cohorts/{cohort}/risk", need=Need.DECIDE, handler=cohorts.fit, method="POST", deed=Deed.ACT),
    Page(path="/cohorts/{cohort}/point", need=Need.PATIENTS, handler=cohorts.point),
    Page(path="/cohorts/{cohort}/chart.csv", need=Need.CHARTS, handler=cohorts.export, deed=Deed.EXPORT),
    Page(path="/cohorts/{cohort}/report.pdf", need=Need.CHARTS, handler=cohorts.report, deed=Deed.EXPORT),
    Page(path="/conflicts", need=Need.DECIDE, handler=decisions.conflicts, title="Decisions"),
    Page(
        path="/conflicts/{conflict}",
        need=Need.DECIDE,
        handler=decisions.decide,
        method="POST",
        deed=Deed.ACT,
    ),
    Page(path="/phases", need=Need.DECIDE, handler=decisions.phases_page, title="Phases and signals"),
    Page(path="/phases", need=Need.DECIDE, handler=decisions.begin_phase, method="POST", deed=Deed.ACT),
    Page(path="/notes", need=Need.DECIDE, handler=decisions.annotate, method="POST", deed=Deed.ACT),
    Page(
        path="/signals/{signal}",
        need=Need.DECIDE,
        handler=decisions.acknowledge,
        method="POST",
        deed=Deed.ACT,
    ),
    Page(path="/audit", need=Need.AUDIT, handler=trail.trail, title="Audit"),
    Page(path="/system", need=Need.SYSTEM, handler=system.system, title="System"),
    Page(path="/system/retry", need=Need.SYSTEM, handler=system.retry_all, method="POST", deed=Deed.ACT),
)
