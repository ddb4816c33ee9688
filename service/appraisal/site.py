"""A hospital's own weights and calibration in the place of those shipped.

`semblance train site` writes a directory that SEMBLANCE_MODEL_DIR may name: weights, calibration and
a models_manifest.toml whose rows, of line "site", stand in for the product's. Weights and
calibration belong together: one without the other, or for others, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.appraisal.calibration import Calibration, load_calibration, read_calibration
from service.appraisal.model_files.models import SITE_LINE, ModelStore
from service.appraisal.registry import COMPARATORS, NORMALISERS, Method
from service.appraisal.tables import lookup
from service.errors import ConfigurationError, ModelIntegrityError


def calibration_id(method: str) -> str:
    """Id of the manifest row of a site's calibration of a method."""
    return f"{method}-calibration"


def at_site(method: Method, store: ModelStore) -> Method:
    """The method as the store has it: with the site's calibration, and "-site" after its version.

    Raises:
        ConfigurationError: the site's weights come without a calibration, or it is of another method.
        ModelNotFoundError: its file is not there.
        ModelIntegrityError: its file differs from the manifest, or it was made for other weights.
    """
    models = models_of(method)
    own_weights = [model for model in models if store.of_site(model)]
    if not store.of_site(calibration_id(method.name)):
        if own_weights and method.calibration:
            raise ConfigurationError(
                f"method {method.name}: the site's {own_weights[0]} needs a calibration of the site's own, "
                f"{calibration_id(method.name)} in models_manifest.toml"
            )
        calibration = method.calibration
    else:
        calibration = _own(method, models, store).version
    version = f"{method.version}-{SITE_LINE}" if own_weights else method.version
    return replace(method, version=version, calibration=calibration)


def stored_id(version: str) -> str:
    """Id of the manifest row under which a directory keeps a calibration of that version."""
    return f"calibration-{version}"


def with_calibration(method: Method, version: str, store: ModelStore) -> tuple[Method, Calibration]:
    """The method as the store has it, with one of the calibrations stored for it.

    Args:
        method: as the table has it, or put together of a pair.
        version: of the calibration: shipped, or in the directory's manifest.
        store: where model files are found.

    Raises:
        ConfigurationError: no such calibration of this method, or it was made for the product's weights
            and the site has its own; the message lists those there are.
        ModelNotFoundError: its file is not there.
        ModelIntegrityError: its file differs from the manifest, or it was made for other weights.
    """
    known = _stored(method, store)
    if version not in known:
        there = ", ".join(sorted(known)) or "none"
        raise ConfigurationError(f"no calibration {version!r} of method {method.name}; there are: {there}")
    found = known[version]
    models = models_of(method)
    if found.weights_sha256 and found.weights_sha256 != store.sha256(models):
        raise ModelIntegrityError(f"calibration {version} was made for other weights")
    own_weights = any(store.of_site(model) for model in models)
    if own_weights and not found.weights_sha256:
        raise ConfigurationError(
            f"calibration {version} is of the product's weights; the site's own are in their place"
        )
    row = f"{method.version}-{SITE_LINE}" if own_weights else method.version
    return replace(method, version=row, calibration=version), found


def _stored(method: Method, store: ModelStore) -> dict[str, Calibration]:
    """Every calibration stored for a method and its version, by its own version."""
    found = [load_calibration(method.calibration)] if method.calibration else []
    rows = (calibration_id(method.name), *store.ids(stored_id("")))
    found += [read_calibration(store.path(row)) for row in rows if store.of_site(row)]
    wanted = (method.name, method.version)
    return {one.version: one for one in found if (one.method, one.method_version) == wanted}


def calibration_of(method: Method, store: ModelStore) -> Calibration | None:
    """The calibration of a method as `at_site` gave it; None when it has none.

    Raises:
        ConfigurationError: missing or malformed.
        ModelError: as for `at_site`.
    """
    if store.of_site(calibration_id(method.name)):
        return read_calibration(store.path(calibration_id(method.name)))
    return load_calibration(method.calibration) if method.calibration else None


def _own(method: Method, models: Sequence[str], store: ModelStore) -> Calibration:
    found = read_calibration(store.path(calibration_id(method.name)))
    if (found.method, found.method_version) != (method.name, method.version):
        raise ConfigurationError(
            f"calibration {found.version} is of {found.method} {found.method_version}, "
            f"not of {method.name} {method.version}"
        )
    if found.weights_sha256 != store.sha256(models):
        raise ModelIntegrityError(f"calibration {found.version} was made for other weights")
    return found


def models_of(method: Method) -> tuple[str, ...]:
    """Ids of the model files that a method needs, in manifest order."""
    normaliser = lookup(NORMALISERS, method.normaliser, "normaliser")
    comparator = lookup(COMPARATORS, method.comparator, "comparator")
    return tuple(dict.fromkeys(normaliser.models + comparator.models))
