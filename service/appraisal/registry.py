"""NORMALISERS, COMPARATORS and METHODS, by name.

A normaliser makes the normal counterpart of an aligned face; a comparator makes both a difference map; a
method is one of each with a resolution and a calibration.

Any normaliser and comparator can also be put together by hand as "normaliser+comparator"; such a
pair has no calibration, so its appraisals have a score but no rating, percentile or z.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.appraisal.face.finder import FINDER_VERSION
from service.appraisal.gates.occlusion import load_occlusion_calibration
from service.appraisal.methods.features import deep, patchcore
from service.appraisal.methods.localised import comparator as localised
from service.appraisal.methods.localised import normaliser as counterpart
from service.appraisal.methods.pixels import comparators as pixels
from service.appraisal.methods.stylegan2 import normaliser as stylegan2
from service.appraisal.methods.symmetry import normaliser as symmetry
from service.appraisal.methods.two_phase import comparator as discrepancy
from service.appraisal.methods.two_phase import normaliser as two_phase
from service.appraisal.model_files.models import ModelStore
from service.appraisal.settings import AppraisalSettings
from service.appraisal.tables import ComparatorRow, NormaliserRow, lookup, table
from service.errors import UnknownMethodError
from service.records import MethodIdentity

NORMALISERS: Mapping[str, NormaliserRow] = table(
    (symmetry.ROW, *stylegan2.ROWS, *counterpart.ROWS, two_phase.ROW)
)
COMPARATORS: Mapping[str, ComparatorRow] = table(
    (*pixels.ROWS, *deep.ROWS, patchcore.ROW, localised.ROW, discrepancy.ROW)
)
PAIR_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of METHODS."""

    name: str
    version: str  # changes whenever the results do
    normaliser: str  # key in NORMALISERS
    comparator: str  # key in COMPARATORS
    size: int  # side of the canonical square in pixels
    calibration: str  # version of the stored calibration; "" when none
    summary: str  # one line for people
    fine: bool = False  # whether the face is aligned with cubic interpolation; linear otherwise
    occlusion: str = ""  # version of the occlusion gate's calibration; "" when the method has no such gate
    caution: str = ""  # what to beware of in its results, for whoever chooses it; "" for nothing special


METHODS: Mapping[str, Method] = table(
    (
        Method(
            name="default",
            version="4",
            normaliser="counterpart",
            comparator="localised",
            size=256,
            calibration="default-3",
            summary="A network trained on synthetic anomalies; draws a normal counterpart; research weights.",
            fine=True,
            occlusion="occlusion-1",
        ),
        Method(
            name="symmetry",
            version="1",
            normaliser="symmetry",
            comparator="multiscale",
            size=256,
            calibration="symmetry-1",
            summary="The face against its own mirror image; needs no weights, blind to symmetrical change.",
            caution="near chance on real clefts and palsies (AUROC .57), of most of which it still says 7.0; "
            "a normal score of it means little",
        ),
        Method(
            name="two-phase",
            version="1",
            normaliser="two-phase",
            comparator="deep-squeezenet-unit",
            size=256,
            calibration="",
            summary="Paper 002: discrepancy, mask, inpainting, twice; a baseline; research weights.",
        ),
    )
)


def find_method(name: str) -> Method:
    """Find a method by its name, or put one together from "normaliser+comparator".

    Raises:
        UnknownMethodError: No such method, normaliser or comparator.
    """
    if name in METHODS:
        return METHODS[name]
    normaliser, plus, comparator = name.partition("+")
    if not plus:
        raise UnknownMethodError(
            f"no method {name!r}; there are: {', '.join(sorted(METHODS))}, or normaliser+comparator"
        )
    first = lookup(NORMALISERS, normaliser, "normaliser")
    second = lookup(COMPARATORS, comparator, "comparator")
    return Method(
        name=name,
        version=f"{first.version}+{second.version}",
        normaliser=normaliser,
        comparator=comparator,
        size=PAIR_SIZE,
        calibration="",
        summary=f"{normaliser} normaliser with {comparator} comparator, not calibrated",
    )


def identify(method: Method, settings: AppraisalSettings, store: ModelStore) -> MethodIdentity:
    """Return what a result has to agree in to be comparable.

    Raises:
        UnknownMethodError: The method names an unknown normaliser or comparator.
        ModelNotFoundError: It names a model that is not in the manifest.
        ConfigurationError: The calibration of its occlusion gate is missing or malformed.
    """
    normaliser = lookup(NORMALISERS, method.normaliser, "normaliser")
    comparator = lookup(COMPARATORS, method.comparator, "comparator")
    gates = (load_occlusion_calibration(method.occlusion),) if method.occlusion else ()
    models = (*normaliser.models, *comparator.models, *(gate.model for gate in gates))
    return MethodIdentity(
        name=method.name,
        version="/".join(
            (
                method.version,
                normaliser.version,
                comparator.version,
                str(method.size),
                f"mesh{FINDER_VERSION}",
                *(gate.version for gate in gates),
            )
        ),
        normaliser=method.normaliser,
        comparator=method.comparator,
        weights_sha256=store.sha256(tuple(dict.fromkeys(models))),
        config_sha256=settings.sha256(),
        calibration=method.calibration,
    )
