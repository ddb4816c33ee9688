"""The stages of `semblance train default`, each with its progress on the console."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.appraisal.methods.localised.views import View
    from service.training.localised.train import TrainingPlan

WEIGHTS = "network.safetensors"  # in the folder of each stage
console = Console(stderr=True)
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
_Tell = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much to train, and on what."""

    steps: int  # optimiser steps in all
    faces: int  # a step
    minutes: float | None  # wall-clock budget; the rate falls to its end by then
    device: str  # "cpu" or "cuda"
    threads: int  # of torch on the CPU
    workers: int  # processes that make examples
    seed: int
    save_every: int  # steps


@contextmanager
def _progress(what: str, steps: int) -> Iterator[_Tell]:
    with Progress(*_COLUMNS, console=console) as progress:
        task = progress.add_task(what, total=steps)

        def tell(step: int, _steps: int, figures: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            progress.console.print(step, {k: round(v, 3) for k, v in figures.items()}, highlight=False)

        yield tell


def once(out: Path, what: str, stage: Callable[[], object]) -> Path:
    """Run a stage unless it has come to its end before; returns the weights it made.

    Args:
        out: the stage's folder.
        what: how much is to be trained; more of it than before goes on from the checkpoint.
        stage: trains.
    """
    done = out / "done"
    if not done.exists() or done.read_text(encoding="utf-8") != what:
        stage()
        done.write_text(what, encoding="utf-8")
    return out / WEIGHTS


def network(plan: TrainingPlan, data: Path) -> Path:
    """Train the network of a view.

    Raises:
        ConfigurationError: no faces to train on, or none to steer by.
    """
    from service.appraisal.anomalies import NAMED
    from service.training.faces import Split, open_pool
    from service.training.localised.steering import steering_set
    from service.training.localised.train import train

    pool = open_pool(data, Split.TRAIN)
    held = open_pool(data, Split.CALIBRATION, fine_only=True)
    if not pool.members or not held.members:
        raise ConfigurationError(
            f"{data}: {len(pool)} faces to train on and {len(held)} of the finest archive to steer by"
        )
    faces = min(64, len(held))
    steering = steering_set(held, NAMED, faces=faces, severity=0.5, seed=1, view=plan.view)
    with _progress(f"{plan.view.name}: training on {len(pool)} faces", plan.steps) as tell:
        weights = train(plan, pool, held=steering, progress=tell)
    console.print(f"weights: {weights}")
    return weights


def landmarks(weights: Path, data: Path, out: Path, view: View, effort: Effort) -> Path:
    """Train the landmarks of the network of a view.

    Raises:
        ConfigurationError: no faces to train on.
    """
    from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork, of_whole
    from service.appraisal.model_files.models import load_tensors
    from service.training.faces import Split, open_pool
    from service.training.localised.landmarks import LandmarkPlan, train_landmarks
    from service.training.schedule import save_halves

    plan = LandmarkPlan(
        out=out,
        view=view,
        steps=effort.steps,
        faces_per_batch=effort.faces,
        minutes=effort.minutes,
        device=effort.device,
        threads=effort.threads,
        workers=effort.workers,
        seed=effort.seed,
        save_every=effort.save_every,
    )
    pool = open_pool(data, Split.TRAIN)
    if not pool.members:
        raise ConfigurationError(f"{data}: no faces to train on")
    seeing = AnomalyNetwork(view)
    seeing.load_state_dict(of_whole(load_tensors(weights)))
    with _progress(f"{view.name}: landmarks on {len(pool)} faces", plan.steps) as tell:
        train_landmarks(seeing, plan, pool, progress=tell)
    save_halves(seeing.state_dict(), out / WEIGHTS)
    console.print(f"weights: {out / WEIGHTS}")
    return out / WEIGHTS


def close_up(weights: Path, data: Path, out: Path, effort: Effort) -> Path:
    """Train the network that sees mouth and nose from close by, from the whole face's weights."""
    from safetensors.torch import save_file

    from service.appraisal.methods.localised.anomaly_network import of_whole
    from service.appraisal.methods.localised.views import CLOSE_UP
    from service.appraisal.model_files.models import load_tensors
    from service.training.localised.close_up import seen_from
    from service.training.localised.train import TrainingPlan

    whole = of_whole(load_tensors(weights))
    out.mkdir(parents=True, exist_ok=True)
    start = out / "start.safetensors"
    save_file(seen_from(CLOSE_UP, whole), start)
    plan = TrainingPlan(
        out=out,
        view=CLOSE_UP,
        encoder=None,
        start=start,
        steps=effort.steps,
        curriculum_steps=0,
        learning_rate=1e-3,
        encoder_rate=0.3,
        faces_per_batch=effort.faces,
        minutes=effort.minutes,
        device=effort.device,
        threads=effort.threads,
        workers=effort.workers,
        seed=effort.seed,
        save_every=effort.save_every,
    )
    return network(plan, data)


def calibrated(  # noqa: PLR0917
    weights: Path,
    close: Path | None,
    data: Path,
    out: Path,
    faces: int,
    line: str,
    seed: int,
    *,
    everyone: bool = False,
    started_from: str = "",
    leave_one_kind_out: bool = False,
) -> tuple[Path, ...]:
    """Calibrate both networks; see ``release``."""
    from service.appraisal.face.finder import MediapipeFaceFinder
    from service.training.localised.release import release

    with Progress(console=console) as progress:
        task = progress.add_task("calibrating", total=faces)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return release(
            weights,
            data,
            out,
            MediapipeFaceFinder(),
            close_up=close,
            faces=faces,
            line=line,
            seed=seed,
            everyone=everyone,
            started_from=started_from,
            leave_one_kind_out=leave_one_kind_out,
            tell=tell,
        )


def expected(weights: Path, data: Path, out: Path, faces: int) -> tuple[Path, ...]:
    """Fit what to expect of a face; see ``release_expected_face``."""
    from service.appraisal.face.finder import MediapipeFaceFinder
    from service.appraisal.gates.occlusion import load_occlusion_calibration
    from service.appraisal.gates.occlusion_gate import OcclusionGate
    from service.appraisal.model_files.models import ModelStore
    from service.appraisal.registry import METHODS
    from service.training.localised.normal_readings import release_expected_face

    calibration = load_occlusion_calibration(METHODS["default"].occlusion)
    covers = OcclusionGate(ModelStore().tensors(calibration.model), calibration)
    with Progress(console=console) as progress:
        task = progress.add_task("reading normal faces", total=faces)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return release_expected_face(
            weights, data, out, MediapipeFaceFinder(), covers, faces=faces, tell=tell
        )
