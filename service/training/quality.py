"""Checks the quality measures against known truth: ``python -m service.training.quality --help``.

Each normal face of the calibration split is enlarged by a random factor, which wipes out the archive's
own compression, and then spoilt by a known amount: JPEG, noise, blur, exposure, light from one side,
turning of the head. The table says how the estimates follow the truth; the second table what clean
faces measure and how many each gate refuses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import LinearNDInterpolator
from scipy.stats import spearmanr

from service.appraisal.face.finder import LEFT_IRIS, RIGHT_IRIS, Face, FaceFinder, MediapipeFaceFinder
from service.appraisal.face.pose import Pose
from service.appraisal.gates.quality import check_quality
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.settings import AppraisalSettings
from service.records import QualityMeasures, RejectionReason
from service.training.faces import FacePool, NormalFace, Split, open_pool

Image = npt.NDArray[np.uint8]
_LARGEST = 2.4  # times an archive's face is enlarged at most
_JPEG = (10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0)
_NOISE = (0.0, 2.0, 4.0, 8.0, 16.0)  # sigma, 0..255
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)  # sigma, percent of the inter-ocular distance
_STOPS = (-3.0, -2.0, -1.0, 0.0, 0.5)
_LIGHT = (-3.0, -1.5, -0.5, 0.5, 1.5, 3.0)  # stops, the patient's left over the right
_TURNS = (-20.0, -10.0, 0.0, 10.0, 20.0)  # degrees


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One face as a photograph."""

    rgb: Image  # (H, W, 3) uint8
    face: Face


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a measure follows the truth."""

    measure: str
    unit: str
    count: int
    rank: float  # Spearman's rank correlation of all pairs of truth and estimate
    error: float  # median absolute error, in the unit
    bias: float  # median error, in the unit
    missing: int  # pictures without an estimate


def sitting(face: NormalFace, rng: np.random.Generator) -> Sitting:
    """The face enlarged, as a photograph with its landmarks."""
    side = int(face.image.shape[0] * rng.uniform(1.3, _LARGEST))
    rgb = np.asarray(cv2.resize(face.image, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    points = (face.landmarks.astype(np.float64) + 0.5) * side / face.image.shape[0] - 0.5
    mesh = np.column_stack([points, np.zeros(len(points))])
    return Sitting(rgb=rgb, face=Face(mesh=mesh, pose=Pose(yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0)))


def jpeg(given: Sitting, quality: float, rng: np.random.Generator) -> Image:
    """Compressed by libjpeg."""
    _, packed = cv2.imencode(".jpg", given.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def noise(given: Sitting, sigma: float, rng: np.random.Generator) -> Image:
    """With white noise of the luminance."""
    grain = sigma * rng.standard_normal(given.rgb.shape[:2])[..., None]
    return np.asarray(np.clip(np.rint(given.rgb + grain), 0, 255), np.uint8)


def blur(given: Sitting, percent: float, rng: np.random.Generator) -> Image:
    """Blurred by a Gaussian."""
    sigma = percent / 100 * given.face.inter_ocular_px
    return np.asarray(cv2.GaussianBlur(given.rgb, (0, 0), sigma), np.uint8)


def _lit(rgb: Image, gain: npt.NDArray[np.float64]) -> Image:
    """With linear light multiplied."""
    value = rgb.astype(np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) * gain
    coded = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
    return np.asarray(np.clip(np.rint(255 * coded), 0, 255), np.uint8)


def exposure(given: Sitting, stops: float, rng: np.random.Generator) -> Image:
    """Exposed by so many stops more."""
    return _lit(given.rgb, np.array(2.0**stops))


def side_light(given: Sitting, stops: float, rng: np.random.Generator) -> Image:
    """One half of the face brighter by so many stops; soft across a tenth of the eyes' distance."""
    middle = given.face.landmarks[[LEFT_IRIS, RIGHT_IRIS], 0].mean()
    away = (np.arange(given.rgb.shape[1]) - middle) / (0.1 * given.face.inter_ocular_px)
    return _lit(given.rgb, (2.0 ** (0.5 * stops * np.tanh(away)))[None, :, None])


@dataclass(frozen=True, kw_only=True)
class Test:
    """One measure with the way to spoil a photograph by a known amount of it."""

    measure: str  # field of QualityMeasures
    unit: str
    amounts: Sequence[float]
    spoil: Callable[[Sitting, float, np.random.Generator], Image]
    truth: Callable[[float, QualityMeasures], float]  # amount, measures of the unspoilt -> expected


def _amount(amount: float, clean: QualityMeasures) -> float:
    return amount


def _with_own_noise(amount: float, clean: QualityMeasures) -> float:
    return float(np.hypot(amount, clean.noise_sigma or 0.0))


def _with_own_blur(amount: float, clean: QualityMeasures) -> float:
    return float(np.hypot(amount, clean.blur_percent or 0.0))


def _more_stops(amount: float, clean: QualityMeasures) -> float:
    return amount + (clean.exposure_ev or 0.0)


def _more_light(amount: float, clean: QualityMeasures) -> float:
    return amount + (clean.light_asymmetry_ev or 0.0)


TESTS: tuple[Test, ...] = (
    Test(measure="jpeg_quality", unit="libjpeg quality", amounts=_JPEG, spoil=jpeg, truth=_amount),
    Test(measure="noise_sigma", unit="grey levels", amounts=_NOISE, spoil=noise, truth=_with_own_noise),
    Test(measure="blur_percent", unit="% of eyes' distance", amounts=_BLUR, spoil=blur, truth=_with_own_blur),
    Test(measure="exposure_ev", unit="stops", amounts=_STOPS, spoil=exposure, truth=_more_stops),
    Test(measure="light_asymmetry_ev", unit="stops", amounts=_LIGHT, spoil=side_light, truth=_more_light),
)


def _measures(given: Sitting, rgb: Image) -> QualityMeasures:
    return check_quality(photograph_from_rgb(rgb), (given.face,), AppraisalSettings())[0]


def agreement(test: Test, sittings: Sequence[Sitting], rng: np.random.Generator) -> Agreement:
    """Spoil every face by every amount and compare."""
    true, found, missing = [], [], 0
    for given in sittings:
        clean = _measures(given, given.rgb)
        for amount in test.amounts:
            value = getattr(_measures(given, test.spoil(given, amount, rng)), test.measure)
            missing += value is None
            if value is not None:
                true.append(test.truth(amount, clean))
                found.append(value)
    return _compared(test.measure, test.unit, true, found, missing)


def _compared(
    measure: str, unit: str, true: Sequence[float], found: Sequence[float], missing: int
) -> Agreement:
    away = np.asarray(found) - np.asarray(true)
    return Agreement(
        measure=measure,
        unit=unit,
        count=len(true),
        rank=float(spearmanr(true, found).statistic),
        error=float(np.median(np.abs(away))),
        bias=float(np.median(away)),
        missing=missing,
    )


def turned(rgb: Image, mesh: npt.NDArray[np.float64], yaw_deg: float, pitch_deg: float) -> Image:
    """The face as it would look turned, by its own mesh: every pixel follows the triangle it lies in.

    Args:
        rgb: (H, W, 3) uint8.
        mesh: (478, 3) float64, pixels, z away from the camera.
        yaw_deg: to the patient's left.
        pitch_deg: up.
    """
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    middle = mesh[[LEFT_IRIS, RIGHT_IRIS, 234, 454]].mean(0)
    around_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    there = (mesh - middle) @ (around_y @ around_x).T + middle
    side = rgb.shape[0]
    frame = np.array(
        [
            [x, y]
            for x in (0, side / 2, side - 1)
            for y in (0, side / 2, side - 1)
            if (x, y) != (side / 2, side / 2)
        ]
    )
    source = np.concatenate([mesh[:468, :2], frame])
    target = np.concatenate([there[:468, :2], frame])
    rows, columns = np.mgrid[0:side, 0:side]
    back = LinearNDInterpolator(target, source)(columns, rows).astype(np.float32)
    return np.asarray(
        cv2.remap(rgb, back[..., 0], back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def pose_agreement(pool: FacePool, numbers: Sequence[int], finder: FaceFinder) -> tuple[Agreement, ...]:
    """Turn heads by their own mesh and find the pose anew."""
    pairs: dict[str, tuple[list[float], list[float]]] = {"yaw_deg": ([], []), "pitch_deg": ([], [])}
    missing = 0
    for number in numbers:
        wide = cv2.copyMakeBorder(pool.face(number, 256).image, 64, 64, 64, 64, cv2.BORDER_REPLICATE)
        rgb = np.asarray(wide, np.uint8)
        faces = finder.find(rgb)
        if len(faces) != 1:
            missing += 1
            continue
        for name, (true, found) in pairs.items():
            for turn in _TURNS:
                by = {"yaw_deg": 0.0, "pitch_deg": 0.0} | {name: turn}
                again = finder.find(turned(rgb, faces[0].mesh, **by))
                if len(again) != 1:
                    missing += 1
                    continue
                true.append(turn)
                found.append(getattr(again[0].pose, name) - getattr(faces[0].pose, name))
    return tuple(_compared(name, "degrees", true, found, missing) for name, (true, found) in pairs.items())


def clean_faces(pool: FacePool, numbers: Sequence[int]) -> tuple[list[QualityMeasures], dict[str, int]]:
    """What faces measure as they are, and how many each gate refuses.

    Faces of an archive are already aligned, upright and whole: pose and cut-off are not tested here.
    """
    measures, refused = [], dict.fromkeys([*RejectionReason, "any"], 0)
    for number in numbers:
        archive, index = pool.members[number]
        face = pool.archives[archive].face(index)
        mesh = np.column_stack([face.landmarks.astype(np.float64), np.zeros(len(face.landmarks))])
        whole = Face(mesh=mesh, pose=Pose(yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0))
        found, reasons = check_quality(photograph_from_rgb(face.image), (whole,), AppraisalSettings())
        measures.append(replace(found, faces=1))
        for reason in reasons:
            refused[reason] += 1
        refused["any"] += bool(reasons)
    return measures, {name: count for name, count in refused.items() if count or name == "any"}


def table(rows: Sequence[Agreement]) -> str:
    """The agreements as a Markdown table."""
    lines = [
        "| measure | unit | pairs | rank correlation | median absolute error | median error |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.measure} | {row.unit} | {row.count} | {row.rank:.3f} | {row.error:.2f} | {row.bias:+.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def clean_table(measures: Sequence[QualityMeasures], refused: Mapping[str, int]) -> str:
    """Percentiles of clean faces and refusals as Markdown."""
    lines = ["| measure | 1 % | 5 % | median | 95 % | 99 % |", "|---|---|---|---|---|---|"]
    for name in (
        "jpeg_quality",
        "noise_sigma",
        "blur_percent",
        "exposure_ev",
        "light_asymmetry_ev",
        "sharpness",
    ):
        values = [value for m in measures if (value := getattr(m, name)) is not None]
        shown = " | ".join(f"{v:.2f}" for v in np.percentile(values, [1, 5, 50, 95, 99]))
        lines.append(f"| {name} | {shown} |")
    said = ", ".join(f"{name} {count}" for name, count in refused.items())
    return "\n".join([*lines, "", f"Refused of {len(measures)}: {said}."])


def main() -> None:
    """Print both tables, or write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--faces", type=int, default=60, help="to spoil")
    parser.add_argument("--clean", type=int, default=400, help="to measure as they are")
    parser.add_argument("--poses", type=int, default=20, help="to turn")
    options = parser.parse_args()
    rng = np.random.default_rng(3)
    fine = open_pool(options.data, Split.CALIBRATION, fine_only=True)
    order = [int(n) for n in rng.permutation(len(fine))]
    sittings = [sitting(fine.face(n, 256), rng) for n in order[: options.faces]]
    rows = [agreement(test, sittings, rng) for test in TESTS]
    rows += pose_agreement(fine, order[: options.poses], MediapipeFaceFinder())
    wide = open_pool(options.data, Split.CALIBRATION)
    chosen = [int(n) for n in rng.permutation(len(wide))[: options.clean]]
    measures, refused = clean_faces(wide, chosen)
    options.out.write_text(table(rows) + "\n\n" + clean_table(measures, refused) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
