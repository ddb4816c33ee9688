"""Short trainings."""

from __future__ import annotations

from service.training.localised.train import TrainingPlan


def plan(tmp_path, start, steps):
    return TrainingPlan(
        out=tmp_path / "run",
        encoder=None,
        start=start,
        steps=steps,
        faces_per_batch=1,
        curriculum_steps=10,
        threads=1,
        workers=0,
        save_every=2,
        steer_every=2,
    )
