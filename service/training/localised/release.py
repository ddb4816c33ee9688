"""From a trained network to files the product loads: weights, fusion, calibration, manifest rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from service.appraisal.anomalies import RANDOM
from service.appraisal.calibration import named_by_content, save_calibration
from service.appraisal.face.finder import FaceFinder
from service.appraisal.methods.localised.anomaly_network import of_close_up, of_whole, together
from service.appraisal.methods.localised.comparator import FUSION_MODEL
from service.appraisal.methods.localised.counterpart.drawing import expected_face_from
from service.appraisal.methods.localised.fusion import Fusion, fusion_from
from service.appraisal.methods.localised.normaliser import EXPECTED_MODEL, MODEL
from service.appraisal.methods.localised.reading import NetworkReader
from service.appraisal.model_files.models import SITE_LINE, ModelEntry, ModelStore, load_tensors
from service.appraisal.site import calibration_id, stored_id
from service.errors import ConfigurationError
from service.evaluation.benchmark.measures import auroc
from service.training.faces import FacePool, Split, open_pool
from service.training.localised.calibrate import Sample, collect, fit
from service.training.localised.cohort import cohort
from service.training.localised.explicit import fit_explicit
from service.training.localised.kinds import leave_one_kind_out as held_out_kinds
from service.training.localised.kinds import write_kinds
from service.training.localised.provenance import licence_of
from service.training.localised.shape import FEWEST, fit_shape
from service.training.model_card import as_toml, card, entry_of, put_rows
from service.training.schedule import save_halves

FEWEST_FACES = 10
_STRONG = 0.5
CALIBRATION = "default-3"
_RESEARCH_LICENCE = "Non-commercial research use only; includes CC-BY-NC-SA-4.0 material"
_LINES = ("research", SITE_LINE)


def release(
    weights: Path,
    data: Path,
    out: Path,
    finder: FaceFinder,
    *,
    close_up: Path | None = None,
    faces: int,
    line: str,
    seed: int,
    everyone: bool = False,
    started_from: str = "",
    leave_one_kind_out: bool = False,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Calibrate a network and write everything the product needs of it.

    For line "site" that is a directory SEMBLANCE_MODEL_DIR may name: a models_manifest.toml, in which
    rows of other models are kept, and a model card. For line "research" the rows come apart, for the
    product's own manifest.

    Args:
        weights: of the trained network of the whole face, or of both networks.
        data: folder of archives; their calibration split is used.
        out: folder to write to.
        finder: finds the mesh.
        close_up: weights of the close-up's network; None takes those in ``weights``, or those shipped.
        faces: how many faces at most.
        line: "research" or "site".
        seed: of all chance.
        everyone: use every face, where the network was trained on none of them.
        started_from: licence of the weights the training began with; "" where it began from free ones.
        leave_one_kind_out: also hold out each kind of anomaly in turn, and write what it comes to.
        tell: told how many of how many faces are done.

    Returns:
        The files written.

    Raises:
        ConfigurationError: unknown line, no archive, or too few faces.
    """
    if line not in _LINES:
        raise ConfigurationError(f"no line {line!r}; there are: {', '.join(_LINES)}")
    pool = open_pool(data, None if everyone else Split.CALIBRATION)
    enough_to_calibrate(pool)
    out.mkdir(parents=True, exist_ok=True)
    tensors = _both(weights, close_up)
    expected = expected_face_from(ModelStore().tensors(EXPECTED_MODEL))
    reader = NetworkReader(tensors)
    samples = collect(pool, RANDOM, reader, finder, expected, faces=faces, seed=seed, tell=tell)
    found = sum(sample.severity == 0 for sample in samples)
    if found < FEWEST_FACES:
        raise ConfigurationError(f"a face is found in {found} pictures of normal faces; too few to calibrate")
    known = _known(data)
    if known is not None:
        shape, explicit = known.shape, known.explicit
    else:
        training = open_pool(data, Split.TRAIN)
        shape, explicit = fit_shape(training), fit_explicit(training)
    fusion = fit(samples, shape, explicit, known)
    network, fused = out / f"{MODEL}.safetensors", out / f"{FUSION_MODEL}.safetensors"
    save_halves(tensors, network)
    save_file({k: v.contiguous() for k, v in fusion.tensors().items()}, fused)
    for path in (network, fused):
        path.chmod(0o644)
    licence = _RESEARCH_LICENCE
    if line == SITE_LINE:
        licence = licence_of(tensors, started_from=started_from, shipped_fusion=known is not None)
    entries = (
        _entry(MODEL, network, line, licence, "Anomaly network of the default method (docs/method.md)."),
        _entry(FUSION_MODEL, fused, line, licence, "Calibration of the default method's difference map."),
    )
    if line == SITE_LINE:
        made = _for_site(entries, samples, fusion, min(faces, len(pool)), out)
    else:
        rows = out / "manifest-rows.toml"
        rows.write_text(as_toml(entries), encoding="utf-8")
        calibration = cohort(samples, fusion, version=CALIBRATION, basis=_basis(samples, "calibration split"))
        made = (rows, save_calibration(calibration, out))
    if leave_one_kind_out:
        made = (*made, write_kinds(held_out_kinds(samples, shape, explicit), out / "held-out-kinds.csv"))
    return network, fused, *made


def _both(weights: Path, close_up: Path | None) -> dict[str, Tensor]:
    """Tensors of both networks, of single precision."""
    tensors = load_tensors(weights)
    if close_up is not None:
        near = load_tensors(close_up)
    else:
        near = of_close_up(tensors) or of_close_up(ModelStore().tensors(MODEL))
    joined = together(of_whole(tensors), near)
    return {k: v.float() if v.is_floating_point() else v for k, v in joined.items()}


def _basis(samples: Sequence[Sample], of: str) -> str:
    shams = sum(sample.severity == 0 for sample in samples)
    return (
        f"{shams} sham-resampled pictures of normal faces of the {of} and {len(samples) - shams} with "
        "random synthetic anomalies; no human ratings"
    )


def _for_site(
    entries: Sequence[ModelEntry], samples: Sequence[Sample], fusion: Fusion, faces: int, out: Path
) -> tuple[Path, ...]:
    """Calibration bound to these weights, model card, and last the manifest that puts them to use."""
    network, fused = (entry.sha256 for entry in entries)
    shared = ModelStore().entry(EXPECTED_MODEL).sha256  # a site's method draws by the shipped expectation
    bound = hashlib.sha256(":".join((network, shared, fused)).encode()).hexdigest()
    basis = _basis(samples, "site")
    unnamed = replace(cohort(samples, fusion, version="", basis=basis), weights_sha256=bound)
    calibration = named_by_content(unnamed, "default-site")
    version = calibration.version
    kept = save_calibration(calibration, out)
    use = "What the default method's scores mean at this site."
    rows = (
        *entries,
        _entry(calibration_id(calibration.method), kept, SITE_LINE, entries[0].licence, use),
        _entry(
            stored_id(version), kept, SITE_LINE, entries[0].licence, use
        ),  # to choose, after one of ratings
    )
    about = out / "model-card.md"
    about.write_text(
        card(
            entries=rows,
            calibration=version,
            basis=basis,
            weights_sha256=bound,
            auroc=_auroc(samples, fusion),
            faces=faces,
        ),
        encoding="utf-8",
    )
    return kept, about, put_rows(rows, out)


def _known(data: Path) -> Fusion | None:
    """The shipped fusion, where the faces are too few for a model of shape of their own."""
    few = len(open_pool(data, Split.TRAIN)) < FEWEST
    return fusion_from(ModelStore().tensors(FUSION_MODEL)) if few else None


def enough_to_calibrate(pool: FacePool) -> None:
    """Refuse too few faces before time is spent on them.

    Raises:
        ConfigurationError: fewer than FEWEST_FACES.
    """
    if len(pool) < FEWEST_FACES:
        raise ConfigurationError(
            f"{len(pool)} normal faces to calibrate on; at least {FEWEST_FACES} are needed"
        )


def _entry(model: str, path: Path, line: str, licence: str, use: str) -> ModelEntry:
    return entry_of(model, path, line=line, licence=licence, intended_use=use)


def _auroc(samples: Sequence[Sample], fusion: Fusion) -> float:
    clean = [fusion.total(s.seen) for s in samples if s.severity == 0]
    strong = [fusion.total(s.seen) for s in samples if s.severity >= _STRONG]
    return auroc(np.array(clean), np.array(strong))
