"""The demonstration: photographs out by C-STORE, their results awaited, found and shown.

Against a running stack; ``semblance demo`` starts one. It has come about only when every photograph's heatmap
is in the PACS and its Observation is served.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from pydicom import dcmread
from rich.console import Console
from rich.json import JSON
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from dicom_node.delivery.scu import send
from dicom_node.demo.wrap import Wrapping, wrap_photograph
from dicom_node.encoding.photographic import encode
from reporting.identifiers import ResultKind, fhir_id, result_uid
from service.config import Settings
from service.database import appraisals, dead_letters, instances, ledger
from service.database.pool import Pool, open_pool, transaction
from service.errors import StackError
from service.peers import Destination
from service.records import InstanceState, LedgerEvent, SavedAppraisal
from service.stack.calling import called_as
from service.stack.waiting import wait_until

_WAIT_S = 180.0
_CALLING_AE_TITLE = "DEMOCAMERA"
_STUDY = "demonstration"
# How far a photograph is, of the three steps that follow its receipt.
_STEPS_DONE = {
    InstanceState.RECEIVED: 1,
    InstanceState.APPRAISED: 2,
    InstanceState.REPORTED: 3,
    InstanceState.DELIVERED: 4,
    InstanceState.DEAD: 4,
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Where the running stack is reached."""

    node: Destination
    fhir_url: str
    pacs_directory: Path
    output: Path
    stays_up: bool  # after the demonstration
    option: str = ""  # by which commands find it, with a space before; "" where they look by themselves


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One photograph that was sent."""

    name: str
    file: Path
    sop_instance_uid: str
    study_instance_uid: str
    known: bool  # an earlier demonstration sent it


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What came of one photograph."""

    shot: Shot
    saved: SavedAppraisal
    took_s: float | None  # from receipt to the last delivery
    capture: Path  # DICOM, in the PACS
    picture: Path  # the same, rendered as PNG
    observation_url: str
    observation: str  # JSON text as served


def send_photograph(
    pool: Pool, node: Destination, settings: Settings, picture: tuple[str, Path], number: int
) -> Shot:
    """Wrap a picture, a name and a file, and send it to the node.

    The identifiers depend on the pixels, so that a second demonstration sends the same instances.
    """
    name, path = picture
    rgb = np.asarray(Image.open(path).convert("RGB"), dtype=np.uint8)
    digest = hashlib.sha256(rgb.tobytes()).hexdigest()
    dataset = wrap_photograph(
        rgb,
        Wrapping(name=digest, study=_STUDY, description=f"Face, {name}", instance_number=number),
    )
    uid = str(dataset.SOPInstanceUID)
    with transaction(pool) as connection:
        known = instances.by_uid(connection, uid) is not None
    camera = settings.model_copy(update={"dicom_ae_title": _CALLING_AE_TITLE})
    send(encode(dataset), node, camera)
    return Shot(
        name=name,
        file=path,
        sop_instance_uid=uid,
        study_instance_uid=str(dataset.StudyInstanceUID),
        known=known,
    )


def await_results(pool: Pool, shots: list[Shot], progress: Progress) -> None:
    """Wait until every photograph is delivered.

    Raises:
        StackError: One was given up, or is not delivered in time.
    """
    bars = {shot.sop_instance_uid: progress.add_task(shot.name, total=4, state="sent") for shot in shots}

    def all_finished() -> bool:
        states = [_state(pool, shot) for shot in shots]
        for shot, state in zip(shots, states, strict=True):
            progress.update(bars[shot.sop_instance_uid], completed=_STEPS_DONE[state], state=state.value)
        return all(state in {InstanceState.DELIVERED, InstanceState.DEAD} for state in states)

    try:
        wait_until(all_finished, timeout_s=_WAIT_S, what="the results")
    except TimeoutError as exc:
        raise StackError(f"{exc}; `semblance status` shows where they are") from exc
    with transaction(pool) as connection:
        uids = {shot.sop_instance_uid for shot in shots}
        letters = [each for each in dead_letters.all_open(connection) if each.sop_instance_uid in uids]
    if letters:
        raise StackError(f"{letters[0].step} gave up: {letters[0].error}\n{letters[0].traceback}")


def collect(pool: Pool, stack: Stack, shot: Shot) -> Shown:
    """Find everything that came of one photograph, where others would look for it.

    Raises:
        StackError: Something is missing.
    """
    with transaction(pool) as connection:
        instance = instances.by_uid(connection, shot.sop_instance_uid)
        if instance is None:
            raise StackError(f"{shot.sop_instance_uid} was not received")
        saved = appraisals.for_instance(connection, instance.instance_id)
        times = {entry.event: entry.at for entry in ledger.entries(connection, shot.sop_instance_uid)}
    if not saved:
        raise StackError(f"{shot.name} has no appraisal")
    appraisal = saved[0].appraisal
    capture_uid = result_uid(appraisal.appraisal_id, ResultKind.SECONDARY_CAPTURE)
    capture = stack.pacs_directory / shot.study_instance_uid / f"{capture_uid}.dcm"
    url = f"{stack.fhir_url}/Observation/{fhir_id('Observation', str(appraisal.appraisal_id))}"
    return Shown(
        shot=shot,
        saved=saved[0],
        took_s=_between(times, LedgerEvent.RECEIVED, LedgerEvent.DELIVERED),
        capture=capture,
        picture=_render(capture, shot, stack.output / f"{shot.name}-heatmap.png"),
        observation_url=url,
        observation=_fetch(url),
    )


def _render(capture: Path, shot: Shot, picture: Path) -> Path:
    """Render the PACS's Secondary Capture, after checking that it refers to the photograph."""
    if not capture.is_file():
        raise StackError(f"the PACS has no heatmap of {shot.name}: {capture}")
    dataset = dcmread(capture)
    sources = [str(item.ReferencedSOPInstanceUID) for item in dataset.get("SourceImageSequence", [])]
    if shot.sop_instance_uid not in sources:
        raise StackError(f"{capture} does not refer to {shot.sop_instance_uid}")
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(dataset.pixel_array).save(picture)
    return picture


def _fetch(url: str) -> str:
    try:
        response = httpx.get(url, headers={"Accept": "application/fhir+json"}, timeout=10)
        response.raise_for_status()
    except httpx.HTTPError as exc:
        raise StackError(f"the FHIR API does not serve {url}: {exc}") from exc
    return response.text


def _state(pool: Pool, shot: Shot) -> InstanceState:
    with transaction(pool) as connection:
        instance = instances.by_uid(connection, shot.sop_instance_uid)
    if instance is None:
        raise StackError(f"{shot.sop_instance_uid} was acknowledged but is not in the database")
    return instance.state


def _between(times: dict[LedgerEvent, datetime], start: LedgerEvent, end: LedgerEvent) -> float | None:
    if start not in times or end not in times:
        return None
    return (times[end] - times[start]).total_seconds()


def show(console: Console, shown: list[Shown], stack: Stack) -> None:
    """Print the table, one Observation, and what to try next."""
    table = Table(title="Results", title_justify="left")
    for name in ("photograph", "score", "rating 1-7", "percentile", "C-STORE to result", ""):
        table.add_column(name)
    for each in shown:
        appraisal = each.saved.appraisal
        table.add_row(
            each.shot.name,
            _number(appraisal.score, 3) if appraisal.score is not None else ", ".join(appraisal.reasons),
            _number(appraisal.rating, 1),
            _number(appraisal.percentile, 0),
            "" if each.took_s is None else f"{each.took_s:.2f} s",
            "found from an earlier run" if each.shot.known else "",
        )
    console.print(table)
    console.print("Score: higher is more normal. Rating: 1 least, 7 most normal, calibrated. Research use.\n")
    for each in shown:
        places = (
            ("photograph", each.shot.sop_instance_uid),
            ("heatmap, PNG", str(each.picture)),
            ("heatmap, DICOM", str(each.capture)),
            ("Observation", each.observation_url),
        )
        console.print(f"[bold]{each.shot.name}[/bold]")
        for name, place in places:
            console.print(f"  {name:<16}{place}", soft_wrap=True, highlight=False)
    console.print()
    last = shown[-1]
    console.print(
        Panel(JSON(_without_components(last.observation)), title=last.observation_url, title_align="left")
    )
    console.print(_next_steps(last, stack), highlight=False, soft_wrap=True)


def _without_components(observation: str) -> str:
    """The Observation without its components, which fill pages."""
    resource = json.loads(observation)
    components = resource.pop("component", [])
    resource["component"] = f"({len(components)} more: rating, percentile, regions, quality)"
    return json.dumps(resource)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _up(semblance: str, stack: Stack) -> str:
    """What leaves this stack running."""
    return f"{semblance} up{stack.option}" if stack.option else f"{semblance} up   (or: make up)"


def _next_steps(last: Shown, stack: Stack) -> str:
    """What to type next, as it has to be typed in this directory."""
    semblance = called_as()
    api = stack.fhir_url if stack.stays_up else "http://127.0.0.1:8080/fhir"
    rows = [
        ("look at it", str(last.picture)),
        *([] if stack.stays_up else [("leave the stack running", _up(semblance, stack))]),
        ("and in another terminal", f"{semblance} status{stack.option}"),
        ("one photograph's history", f"{semblance} status {last.shot.sop_instance_uid}{stack.option}"),
        ("ask the API", f"curl '{api}/Observation?_count=5'"),
        ("pictures, no server", f"{semblance} score --heatmap-dir out {last.shot.file}"),
        ("connect a camera or a PACS", "docs/dicom.md"),
    ]
    return "\n".join(["[bold]What to try next[/bold]", *(f"  {what:<30}{how}" for what, how in rows)])


def run(settings: Settings, stack: Stack, photographs: dict[str, Path], console: Console) -> None:
    """Send, wait, collect and show.

    Raises:
        SemblanceError: Part of the results did not arrive.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with open_pool(settings) as pool:
        with Progress(*columns, console=console) as progress:
            shots = [
                send_photograph(pool, stack.node, settings, picture, number)
                for number, picture in enumerate(photographs.items(), start=1)
            ]
            await_results(pool, shots, progress)
        shown = [collect(pool, stack, shot) for shot in shots]
    show(console, shown, stack)
