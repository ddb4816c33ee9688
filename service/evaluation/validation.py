"""A hospital's own ratings against the methods: Tables II and III of paper 000 for its photographs.

Ratings come as CSV with the columns ``photo,rater,rating``: a file name under the folder of
photographs, any name of the rater, and 1 (least normal) to 7 (most normal).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from service.appraisal.appraiser import BATCH, Appraiser
from service.appraisal.calibration import LEAST_RATING, MOST_RATING
from service.appraisal.face.finder import FaceFinder, MediapipeFaceFinder, RememberingFaceFinder
from service.appraisal.methods.features.backbones import BACKBONES
from service.appraisal.model_files.models import ModelState, ModelStore
from service.appraisal.photograph.decode import Photograph, read_photograph
from service.appraisal.registry import COMPARATORS, NORMALISERS, find_method
from service.appraisal.remembering import RememberingNormaliser
from service.appraisal.tables import Progress, Workplace, lookup, unwatched
from service.errors import ConfigurationError, PhotographError
from service.evaluation.statistics import Agreement, RaterAgreement, agreement, rater_agreement
from service.records import Appraisal, Region

COLUMNS = ("photo", "rater", "rating")
LEAST_PHOTOGRAPHS = 6  # three highest and three lowest anchor the scale
REGIONS = (Region.FACE, Region.ORONASAL)  # those of Table II


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratings:
    """Ratings of several photographs by several people."""

    photos: tuple[str, ...]  # file names, in the order they first appear
    raters: tuple[str, ...]
    table: NDArray[np.float64]  # (photos, raters), NaN where a rater did not rate

    def means(self) -> NDArray[np.float64]:
        """Mean rating of each photograph."""
        return np.asarray(np.nanmean(self.table, axis=1), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodScores:
    """Scores of one method."""

    method: str
    scores: dict[Region, tuple[float | None, ...]]  # in the order of the photographs


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """Agreement of one method in one region."""

    method: str
    region: Region
    agreement: Agreement


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """Everything a validation found."""

    ratings: Ratings
    raters: RaterAgreement
    scores: tuple[MethodScores, ...]
    results: tuple[MethodResult, ...]
    rejected: tuple[tuple[str, str], ...]  # photograph and reasons


def read_ratings(path: Path) -> Ratings:
    """Read ratings: columns between commas, semicolons or tabs; numbers with a point or a comma.

    Raises:
        ConfigurationError: Unreadable, other columns, a rating that is no number from 1 to 7, a
            rater twice on one photograph, too few photographs, or all ratings alike.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=_delimiter(file))
            if tuple(reader.fieldnames or ()) != COLUMNS:
                found = ",".join(reader.fieldnames or ()) or "none"
                raise ConfigurationError(f"{path}: the columns must be {','.join(COLUMNS)}, not {found}")
            rows = [_read_row(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigurationError(f"{path}: {exc}") from exc
    photos = tuple(dict.fromkeys(photo for photo, _, _ in rows))
    raters = tuple(dict.fromkeys(rater for _, rater, _ in rows))
    if len(photos) < LEAST_PHOTOGRAPHS:
        raise ConfigurationError(f"{path}: {len(photos)} photographs; {LEAST_PHOTOGRAPHS} are the least")
    table = np.full((len(photos), len(raters)), np.nan)
    for photo, rater, rating in rows:
        cell = (photos.index(photo), raters.index(rater))
        if np.isfinite(table[cell]):
            raise ConfigurationError(f"{path}: {rater!r} rated {photo!r} twice")
        table[cell] = rating
    if np.nanmax(table) == np.nanmin(table):
        raise ConfigurationError(f"{path}: the ratings are constant: nothing to validate against")
    return Ratings(photos=photos, raters=raters, table=table)


def _delimiter(file: TextIO) -> str:
    """What separates the columns: a spreadsheet writes semicolons where a comma stands in numbers."""
    first = file.readline()
    file.seek(0)
    return next((each for each in (";", "\t") if each in first), ",")


def _read_row(path: Path, line: int, row: dict[str, str | None]) -> tuple[str, str, float]:
    values = [row.get(column) for column in COLUMNS]
    if None in row or not all(values):
        raise ConfigurationError(f"{path}, line {line}: every line needs photo, rater and rating")
    try:
        rating = float((values[2] or "").replace(",", "."))
    except ValueError:
        rating = float("nan")
    if not LEAST_RATING <= rating <= MOST_RATING:
        raise ConfigurationError(f"{path}, line {line}: a rating is a number from 1 to 7, not {values[2]!r}")
    return str(values[0]), str(values[1]), rating


def usable_methods(normaliser: str, store: ModelStore) -> tuple[str, ...]:
    """Name the pairs of Tables II and III whose model files are there."""
    present = {status.entry.id for status in store.status() if status.state is ModelState.PRESENT}
    names = ["pse", "ssim", "patchcore"]
    for backbone in BACKBONES.values():
        for kind in (f"lpips-{backbone.name}", f"deep-{backbone.name}"):
            layers = ["", *(f"-l{layer}" for layer in range(1, len(backbone.ends) + 1))]
            names += [kind + layer for layer in layers if kind + layer in COMPARATORS]
    return tuple(f"{normaliser}+{name}" for name in names if present.issuperset(COMPARATORS[name].models))


def validate(
    ratings: Ratings,
    folder: Path,
    methods: Sequence[str],
    store: ModelStore,
    *,
    device: str = "auto",
    draws: int = 2000,
    batch: int = BATCH,
    finder: FaceFinder | None = None,
    progress: Progress = unwatched,
    steps: Progress = unwatched,
) -> Validation:
    """Score the photographs by every method and compare with the ratings.

    Methods of one normaliser share its counterparts, which are made once; no more than a batch of
    photographs is in memory.

    Args:
        ratings: Of the photographs.
        folder: Where they are.
        methods: Names for `Appraiser`.
        store: Where model files are found.
        device: "auto", "cpu" or "cuda".
        draws: Bootstrap resamples.
        batch: Photographs appraised together.
        finder: Finds the faces.
        progress: Called with appraisals done and in all.
        steps: Called by a normaliser that takes long, with steps done and in all.

    Raises:
        ConfigurationError: A photograph is missing, too few can be judged, or too few people rated one.
        UnknownMethodError: No such method.
        ModelError: A model file is missing or wrong.
    """
    missing = [photo for photo in ratings.photos if not (folder / photo).is_file()]
    if missing:
        raise ConfigurationError(f"{len(missing)} photographs are not in {folder}: {', '.join(missing[:5])}")
    raters = rater_agreement(ratings.table)
    panel = _Panel(methods, store, device=device, finder=finder or MediapipeFaceFinder(), steps=steps)
    rejected: dict[str, str] = {}
    rows: list[list[dict[Region, float | None]]] = [[] for _ in methods]
    progress(0, len(ratings.photos) * len(methods))
    for start in range(0, len(ratings.photos), batch):
        part = ratings.photos[start : start + batch]
        photographs = _read(part, folder, rejected)
        for index, row in enumerate(rows):
            row.extend(panel.scores(index, photographs, rejected))
            progress(start * len(methods) + (index + 1) * len(part), len(ratings.photos) * len(methods))
        panel.forget()
    scored = tuple(
        MethodScores(method=method, scores={region: tuple(one[region] for one in row) for region in REGIONS})
        for method, row in zip(methods, rows, strict=True)
    )
    return Validation(
        ratings=ratings,
        raters=raters,
        scores=scored,
        results=tuple(
            _compare(one, region, ratings, draws, rejected) for one in scored for region in REGIONS
        ),
        rejected=tuple((photo, rejected[photo]) for photo in ratings.photos if photo in rejected),
    )


class _Panel:
    """Several methods on the same photographs: faces are found, and counterparts made, once for all."""

    def __init__(
        self, methods: Sequence[str], store: ModelStore, *, device: str, finder: FaceFinder, steps: Progress
    ) -> None:
        self._finder = RememberingFaceFinder(finder)
        self._normalisers: dict[tuple[str, int], RememberingNormaliser] = {}
        self._appraisers = []
        for method in methods:
            row = find_method(method)
            key = (row.normaliser, row.size)
            if key not in self._normalisers:
                self._normalisers[key] = _normaliser(*key, store=store, device=device, steps=steps)
            self._appraisers.append(
                Appraiser(
                    method,
                    store=store,
                    device=device,
                    face_finder=self._finder,
                    normaliser=self._normalisers[key],
                )
            )

    def scores(
        self, method: int, photographs: Mapping[str, Photograph | None], rejected: dict[str, str]
    ) -> list[dict[Region, float | None]]:
        """Scores of photographs by one method; why those without one are rejected goes to `rejected`."""
        there = {photo: photograph for photo, photograph in photographs.items() if photograph is not None}
        found = self._appraisers[method].appraise_batch(list(there.values()), with_maps=False)
        by_photo = {photo: result.appraisal for photo, result in zip(there, found, strict=True)}
        rejected |= {photo: ", ".join(one.reasons) for photo, one in by_photo.items() if one.reasons}
        return [_scores(by_photo.get(photo)) for photo in photographs]

    def forget(self) -> None:
        """Let go of the photographs seen so far."""
        self._finder.forget()
        for normaliser in self._normalisers.values():
            normaliser.forget()


def _normaliser(
    name: str, size: int, *, store: ModelStore, device: str, steps: Progress
) -> RememberingNormaliser:
    from service.appraisal.acceleration import pick_device

    row = lookup(NORMALISERS, name, "normaliser")
    place = pick_device(device) if row.models else "cpu"
    return RememberingNormaliser(row.build(Workplace(store=store, device=place, size=size, progress=steps)))


def _read(photos: Sequence[str], folder: Path, rejected: dict[str, str]) -> dict[str, Photograph | None]:
    found: dict[str, Photograph | None] = {}
    for photo in photos:
        try:
            found[photo] = read_photograph(folder / photo)
        except PhotographError as exc:
            found[photo] = None
            rejected[photo] = str(exc)
    return found


def _scores(appraisal: Appraisal | None) -> dict[Region, float | None]:
    found = {part.region: part.score for part in appraisal.regions} if appraisal else {}
    return {region: found.get(region) for region in REGIONS}


def _compare(
    scores: MethodScores, region: Region, ratings: Ratings, draws: int, rejected: Mapping[str, str]
) -> MethodResult:
    pairs = [
        (score, float(mean))
        for score, mean in zip(scores.scores[region], ratings.means(), strict=True)
        if score is not None
    ]
    if len(pairs) < LEAST_PHOTOGRAPHS:
        raise ConfigurationError(
            f"{scores.method}, {region.value}: {len(pairs)} photographs could be judged, "
            f"{LEAST_PHOTOGRAPHS} are the least; rejected: "
            + ("; ".join(f"{photo} ({why})" for photo, why in list(rejected.items())[:5]) or "none")
        )
    found = agreement([score for score, _ in pairs], [mean for _, mean in pairs], draws=draws)
    return MethodResult(method=scores.method, region=region, agreement=found)
