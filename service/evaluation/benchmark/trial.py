"""One benchmark: normal faces, each with anomalies of every type and severity, shown to a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.appraisal.anomalies import (
    Canvas,
    Change,
    Maker,
    Rendered,
    inter_ocular_distance,
    normal_lip,
    render,
)
from service.appraisal.appraiser import Appraised
from service.evaluation.benchmark.measures import pixel_auroc, region_overlap

SHAM, PLACEBO = "sham", "normal-lip"  # kinds of images without an anomaly
PLACEBOS = 2  # of each face
SEVERITIES = (0.25, 0.5, 0.75, 1.0)
WOBBLE_PX = 0.4  # sub-pixel shift of every rendering, so that sham and anomaly are resampled alike


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One normal face."""

    identity: str  # of the person; somebody may have several photographs
    group: str  # for figures by subgroup
    image: npt.NDArray[np.uint8]  # (H, W, 3) uint8, sRGB
    landmarks: npt.NDArray[np.float32]  # (478, 2) float32, pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a judge says of one image."""

    anomaly: float | None  # higher = more anomalous; None when the image was rejected
    difference: npt.NDArray[np.float32] | None  # (H, W) float32, NaN where nothing was judged
    appraised: Appraised | None = None  # all the method said; None of an oracle
    reasons: tuple[str, ...] = ()  # why it was rejected


class Judge(Protocol):
    """A method under test; the oracle also looks at the true sham."""

    def judge(self, image: npt.NDArray[np.uint8], sham: npt.NDArray[np.uint8]) -> Judged:
        """Judge one image.

        Args:
            image: (H, W, 3) uint8, sRGB.
            sham: the same face without anomaly; only an oracle may look.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One judged image of the benchmark."""

    subject: str
    group: str
    kind: str  # SHAM, PLACEBO or the anomaly type
    severity: float  # 0 for a sham and a placebo
    anomaly: float | None  # higher = more anomalous; None when rejected
    pixel_auroc: float  # inside what was judged; NaN for a sham
    pro: float  # per-region overlap; NaN for a sham
    reasons: tuple[str, ...] = ()  # why it was rejected
    photograph: int = 0  # number of the face it was made of, among all of the trial
    percentile: float | None = None  # in the method's normal cohort; None without one, or when rejected


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """An image of the benchmark with what was said of it."""

    subject: Subject
    kind: str  # "sham" or the anomaly type
    severity: float  # 0 for a sham
    rendered: Rendered
    judged: Judged


def trial(
    subjects: Sequence[Subject],
    makers: Mapping[str, Maker],
    judge: Judge,
    *,
    severities: Sequence[float] = SEVERITIES,
    seed: int = 0,
    keep: Callable[[Sheet], None] = lambda sheet: None,
) -> Iterator[Verdict]:
    """Show every image to a judge, in a fixed order; the same seed makes the same images.

    Args:
        subjects: normal faces.
        makers: anomaly types by name.
        judge: the method under test.
        severities: of each type.
        seed: of all chance.
        keep: given every image with what was said of it.
    """
    for number, subject in enumerate(subjects):
        rng = np.random.default_rng((seed, number))
        unit = inter_ocular_distance(subject.landmarks)
        canvas = Canvas(image=subject.image, landmarks=subject.landmarks, unit=unit)
        shift = rng.uniform(-WOBBLE_PX, WOBBLE_PX, 2)
        place = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        sham = render(subject.image, None, place)
        yield replace(_verdict(subject, None, sham, sham, judge, keep), photograph=number)
        for make in makers.values():
            own = int(rng.integers(2**31))
            for severity in severities:
                change = make(canvas, severity, np.random.default_rng(own))
                shown = render(subject.image, change, place)
                yield replace(_verdict(subject, change, shown, sham, judge, keep), photograph=number)


def placebos(subjects: Sequence[Subject], judge: Judge, *, seed: int = 0) -> Iterator[Verdict]:
    """Show every face with the lips of other normal people, which are no anomaly.

    Args:
        subjects: normal faces.
        judge: the method under test.
        seed: of all chance.
    """
    for number, subject in enumerate(subjects):
        rng = np.random.default_rng((seed, number, PLACEBOS))
        unit = inter_ocular_distance(subject.landmarks)
        canvas = Canvas(image=subject.image, landmarks=subject.landmarks, unit=unit)
        for _ in range(PLACEBOS):
            shift = rng.uniform(-WOBBLE_PX, WOBBLE_PX, 2)
            place = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
            change = normal_lip(canvas, rng)
            sham, shown = render(subject.image, None, place), render(subject.image, change, place)
            yield replace(
                _verdict(subject, change, shown, sham, judge, lambda sheet: None), photograph=number
            )


def _verdict(  # noqa: PLR0917
    subject: Subject,
    change: Change | None,
    rendered: Rendered,
    sham: Rendered,
    judge: Judge,
    keep: Callable[[Sheet], None],
) -> Verdict:
    judged = judge.judge(rendered.image, sham.image)
    kind = SHAM if change is None else change.kind
    severity = 0.0 if change is None else change.severity
    keep(Sheet(subject=subject, kind=kind, severity=severity, rendered=rendered, judged=judged))
    pixels, pro = float("nan"), float("nan")
    if change is not None and judged.difference is not None:
        pixels = pixel_auroc(judged.difference, rendered.mask)
        pro = region_overlap(judged.difference, rendered.mask)
    return Verdict(
        subject=subject.identity,
        group=subject.group,
        kind=kind,
        severity=severity,
        anomaly=judged.anomaly,
        pixel_auroc=pixels,
        pro=pro,
        reasons=judged.reasons,
        percentile=judged.appraised.appraisal.percentile if judged.appraised is not None else None,
    )
