"""The report of a validation: HTML for people, CSV for spreadsheets."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from service.appraisal.photograph.decode import read_photograph
from service.evaluation.statistics import Estimate, to_ratings
from service.evaluation.validation import MethodResult, Validation
from service.records import Region

_TITLES = {Region.ORONASAL: "oral/nasal region", Region.FACE: "entire face"}  # Table II's order
_WORST = 8  # cases shown
_THUMBNAIL_PX = 220


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """One table of the report."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A photograph people and machine disagree on."""

    photo: str
    human: float
    machine: float
    picture: str  # JPEG, base64


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One method against people in one region."""

    method: str
    region: str
    chart: str  # PNG, base64: scatter plot and histograms
    cases: tuple[Case, ...]


def write_report(validation: Validation, folder: Path, out: Path) -> Path:
    """Write `report.html`, `agreement.csv`, `scores.csv` and `rejected.csv`.

    Args:
        validation: What was found.
        folder: Where the photographs are.
        out: Where the files go; made if it is not there.

    Returns:
        The path of the HTML report.
    """
    out.mkdir(parents=True, exist_ok=True)
    _write_agreement(validation, out / "agreement.csv")
    _write_scores(validation, out / "scores.csv")
    _write_rejected(validation, out / "rejected.csv")
    environment = Environment(
        loader=PackageLoader("service.evaluation"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("validation.html").render(
        photographs=len(validation.ratings.photos),
        raters=len(validation.ratings.raters),
        rater_agreement=validation.raters,
        rejected=validation.rejected,
        tables=(*_layer_tables(validation), *(_method_table(validation, region) for region in _TITLES)),
        comparisons=[_comparison(validation, region, folder) for region in _TITLES],
    )
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def best_method(validation: Validation, region: Region = Region.FACE) -> str:
    """Return the method of the highest Pearson correlation in a region."""
    whole = [result for result in validation.results if result.region is region]
    return max(whole, key=lambda result: result.agreement.pearson.value).method


def _comparison(validation: Validation, region: Region, folder: Path) -> Comparison:
    """The best method of a region against people."""
    method = best_method(validation, region)
    human, machine, photos = _pairs(validation, method, region)
    return Comparison(
        method=method,
        region=_TITLES[region],
        chart=_chart(human, machine),
        cases=tuple(_worst_cases(human, machine, photos, folder)),
    )


def _pairs(
    validation: Validation, method: str, region: Region
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Human means, machine ratings and names of the photographs a method judged."""
    scores = next(one.scores[region] for one in validation.scores if one.method == method)
    kept = [index for index, score in enumerate(scores) if score is not None]
    human = validation.ratings.means()[kept]
    raw = np.array([scores[index] for index in kept], dtype=np.float64)
    return human, to_ratings(raw, human), [validation.ratings.photos[index] for index in kept]


def _method_table(validation: Validation, region: Region) -> ReportTable:
    """Table III: W1, MAE, Spearman and Pearson of every method in one region."""
    results = [result for result in validation.results if result.region is region]
    columns = ("w1", "mae", "spearman", "pearson")
    tops = {
        column: (min if column in ("w1", "mae") else max)(_figure(r, column).value for r in results)
        for column in columns
    }
    rows = tuple(
        (Cell(text=result.method), *(_cell(_figure(result, column), tops[column]) for column in columns))
        for result in results
    )
    header = ("method", "W1", "MAE", "Spearman", "Pearson")
    return ReportTable(title=f"Methods, {_TITLES[region]} (Table III)", header=header, rows=rows)


def _layer_tables(validation: Validation) -> tuple[ReportTable, ...]:
    """Table II: Pearson by layer, weighted and unweighted, for each region and backbone there is."""
    stems = sorted({r.method.rpartition("-l")[0] for r in validation.results if _layer(r.method)})
    if not stems:
        return ()
    tables = []
    for region, title in _TITLES.items():
        found = {
            (r.method.rpartition("-l")[0], _layer(r.method)): r.agreement.pearson
            for r in validation.results
            if r.region is region and _layer(r.method)
        }
        top = max(estimate.value for estimate in found.values())
        layers = sorted({layer for _, layer in found})
        rows = tuple(
            (
                Cell(text=f"l = {layer}"),
                *(
                    _cell(found[stem, layer], top) if (stem, layer) in found else Cell(text="")
                    for stem in stems
                ),
            )
            for layer in layers
        )
        tables.append(
            ReportTable(title=f"Pearson by layer, {title} (Table II)", header=("layer", *stems), rows=rows)
        )
    return tuple(tables)


def _layer(method: str) -> int:
    """Layer a method looks at; 0 for all of them."""
    tail = method.rpartition("-l")[2]
    return int(tail) if tail.isdigit() else 0


def _figure(result: MethodResult, name: str) -> Estimate:
    found: Estimate = getattr(result.agreement, name)
    return found


def _cell(estimate: Estimate, top: float) -> Cell:
    interval = f"{estimate.low:.3f} to {estimate.high:.3f}"
    return Cell(text=f"{estimate.value:.3f}", interval=interval, best=estimate.value == top)


def _chart(human: NDArray[np.float64], machine: NDArray[np.float64]) -> str:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot([1, 7], [1, 7], color="#bbbbbb", linewidth=1)
    left.scatter(human, machine, s=16, alpha=0.7, color="#31688e")
    left.set(xlabel="mean human rating", ylabel="machine rating", xlim=(0.8, 7.2), ylim=(0.8, 7.2))
    bins = np.linspace(1, 7, 13)
    right.hist([human, machine], bins=bins, label=["people", "machine"], color=["#b5367a", "#31688e"])
    right.set(xlabel="rating", ylabel="photographs")
    right.legend()
    out = io.BytesIO()
    canvas.print_png(out)  # type: ignore[no-untyped-call]
    return base64.b64encode(out.getvalue()).decode("ascii")


def _worst_cases(
    human: NDArray[np.float64], machine: NDArray[np.float64], photos: Sequence[str], folder: Path
) -> list[Case]:
    order = np.argsort(-np.abs(human - machine), kind="stable")[:_WORST]
    return [
        Case(
            photo=photos[index],
            human=float(human[index]),
            machine=float(machine[index]),
            picture=_thumbnail(folder / photos[index]),
        )
        for index in order
    ]


def _thumbnail(path: Path) -> str:
    rgb = read_photograph(path).rgb
    scale = _THUMBNAIL_PX / max(rgb.shape[:2])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", small)
    return base64.b64encode(encoded.tobytes()).decode("ascii")


def _write_agreement(validation: Validation, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        figures = ("pearson", "spearman", "mae", "w1")
        writer.writerow(
            [
                "method",
                "region",
                "photographs",
                *(f"{f}{end}" for f in figures for end in ("", "_low", "_high")),
            ]
        )
        for result in validation.results:
            estimates = [_figure(result, name) for name in figures]
            numbers = [round(v, 6) for e in estimates for v in (e.value, e.low, e.high)]
            writer.writerow([result.method, result.region.value, result.agreement.photographs, *numbers])


def _write_scores(validation: Validation, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "mean_rating", "method", "region", "score"])
        for photo_index, photo in enumerate(validation.ratings.photos):
            mean = round(float(validation.ratings.means()[photo_index]), 6)
            for one in validation.scores:
                for region, scores in one.scores.items():
                    score = scores[photo_index]
                    writer.writerow(
                        [photo, mean, one.method, region.value, "" if score is None else round(score, 6)]
                    )


def _write_rejected(validation: Validation, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("photo", "reasons"), *validation.rejected])
