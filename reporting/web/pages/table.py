"""Every page, with who may see it. A page is a module with its handlers, its template and its rows here."""

from __future__ import annotations

from reporting.web.page import Deed, Page
from reporting.web.pages import photograph, start, worklist
from reporting.web.people import Need

PAGES: tuple[Page, ...] = (
    Page(path="/", need=Need.WORK, handler=start.start, title="Today"),
    Page(path="/worklist", need=Need.WORK, handler=worklist.worklist, title="Photographs"),
    Page(path="/thumbnails/{uid}", need=Need.PATIENTS, handler=worklist.thumbnail),
    Page(path="/find", need=Need.PATIENTS, handler=worklist.find, method="POST"),
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
)
