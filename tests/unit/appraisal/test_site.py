from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from service.appraisal.appraiser import Appraiser
from service.appraisal.calibration import load_calibration, save_calibration
from service.appraisal.model_files.models import SHIPPED_WEIGHTS_DIR, ModelState, ModelStore, read_manifest
from service.appraisal.registry import METHODS
from service.appraisal.site import at_site, calibration_id, calibration_of, stored_id, with_calibration
from service.errors import ConfigurationError, ModelIntegrityError, ModelNotFoundError
from service.training.model_card import as_toml, entry_of

DEFAULT = METHODS["default"]
NETWORK, EXPECTED, FUSION = "default-face", "default-counterpart", "default-fusion"


class Directory:
    """A model directory that the test fills."""

    def __init__(self, path):
        self.path = path
        self.entries = {}

    def put(self, model_id, path, line="site"):
        entry = entry_of(model_id, path, line=line, licence="CC0-1.0", intended_use="tests")
        self.entries[model_id] = entry
        (self.path / "models_manifest.toml").write_text(as_toml(list(self.entries.values())))

    def weights(self):
        """The shipped network and fusion under their names, as the site's; returns their joined hashes."""
        for model_id in (NETWORK, FUSION):
            shipped = SHIPPED_WEIGHTS_DIR / f"{model_id}.safetensors"
            (self.path / shipped.name).write_bytes(shipped.read_bytes())
            self.put(model_id, self.path / shipped.name)
        known = {**read_manifest(), **self.entries}  # what to expect of a face stays the shipped
        return ":".join(known[model_id].sha256 for model_id in (NETWORK, EXPECTED, FUSION))

    def calibration(self, bound, **changes):
        made = replace(load_calibration(DEFAULT.calibration), version="default-site-1", weights_sha256=bound)
        self.put(calibration_id("default"), save_calibration(replace(made, **changes), self.path))

    def store(self):
        return ModelStore(self.path)


@pytest.fixture
def directory(tmp_path):
    return Directory(tmp_path)


@pytest.fixture
def whole(directory):
    directory.calibration(hashlib.sha256(directory.weights().encode()).hexdigest())
    return directory


def test_without_a_directory_the_method_is_the_shipped_one():
    store = ModelStore()
    assert at_site(DEFAULT, store) == DEFAULT
    assert calibration_of(DEFAULT, store) == load_calibration(DEFAULT.calibration)


def test_the_sites_files_take_the_place_of_those_shipped_and_are_named_in_the_result(whole):
    store = whole.store()
    assert store.path(NETWORK).parent == whole.path
    assert {s.entry.id: s.path.parent for s in store.status() if s.path}[FUSION] == whole.path
    row = at_site(DEFAULT, store)
    assert (row.version, row.calibration) == (f"{DEFAULT.version}-site", "default-site-1")
    assert calibration_of(row, store).version == "default-site-1"
    identity = Appraiser("default", store=store, device="cpu").identity
    assert identity.version.startswith(f"{DEFAULT.version}-site/")
    assert identity.calibration == "default-site-1"
    assert store.entry(NETWORK).line == "site"


def test_other_methods_stay_as_they_are(whole):
    symmetry = METHODS["symmetry"]
    assert at_site(symmetry, whole.store()) == symmetry


def test_a_calibration_may_come_alone_for_the_shipped_weights(directory):
    shipped = read_manifest()
    bound = ":".join(shipped[model_id].sha256 for model_id in (NETWORK, EXPECTED, FUSION))
    directory.calibration(hashlib.sha256(bound.encode()).hexdigest())
    row = at_site(DEFAULT, directory.store())
    assert (row.version, row.calibration) == (DEFAULT.version, "default-site-1")


def test_a_file_that_differs_from_the_manifest_is_refused(whole):
    path = whole.path / f"{NETWORK}.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    store = whole.store()
    with pytest.raises(ModelIntegrityError, match="SHA-256"):
        store.path(NETWORK)
    assert {s.entry.id: s.state for s in store.status()}[NETWORK] is ModelState.CORRUPT


def test_a_calibration_that_differs_from_the_manifest_is_refused(whole):
    path = whole.path / "default-site-1.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ModelIntegrityError, match="SHA-256"):
        at_site(DEFAULT, whole.store())


def test_a_site_file_that_is_gone_is_not_taken_from_the_shipped_ones(whole):
    (whole.path / f"{FUSION}.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=FUSION):
        whole.store().path(FUSION)


def test_weights_without_a_calibration_of_their_own_are_refused(directory):
    directory.weights()
    with pytest.raises(ConfigurationError, match="calibration of the site's own"):
        at_site(DEFAULT, directory.store())


def test_a_calibration_for_other_weights_or_another_method_is_refused(directory):
    bound = hashlib.sha256(directory.weights().encode()).hexdigest()
    directory.calibration("0" * 64)
    with pytest.raises(ModelIntegrityError, match="other weights"):
        at_site(DEFAULT, directory.store())
    directory.calibration(bound, method="symmetry")
    with pytest.raises(ConfigurationError, match="is of symmetry"):
        at_site(DEFAULT, directory.store())


def test_only_the_line_site_replaces_the_products_own(directory):
    shipped = SHIPPED_WEIGHTS_DIR / f"{NETWORK}.safetensors"
    (directory.path / shipped.name).write_bytes(shipped.read_bytes())
    directory.put(NETWORK, directory.path / shipped.name, line="external")
    with pytest.raises(ConfigurationError, match="product's own"):
        directory.store()


def test_a_manifest_is_written_as_it_is_read(whole):
    assert read_manifest(whole.path / "models_manifest.toml") == whole.entries


def test_any_stored_calibration_can_be_chosen_and_an_unknown_one_lists_them(directory):
    shipped = read_manifest()
    bound = ":".join(shipped[model_id].sha256 for model_id in (NETWORK, EXPECTED, FUSION))
    weights = hashlib.sha256(bound.encode()).hexdigest()
    directory.calibration(weights)
    older = replace(load_calibration(DEFAULT.calibration), version="older-1", weights_sha256=weights)
    directory.put(stored_id("older-1"), save_calibration(older, directory.path))
    store = directory.store()
    for version in ("older-1", "default-site-1", DEFAULT.calibration):
        row, found = with_calibration(DEFAULT, version, store)
        assert (row.version, row.calibration, found.version) == (DEFAULT.version, version, version)
    with pytest.raises(ConfigurationError, match="default-3, default-site-1, older-1"):
        with_calibration(DEFAULT, "beauty-1", store)
    with pytest.raises(ConfigurationError, match="there are: symmetry-1"):
        with_calibration(METHODS["symmetry"], "older-1", store)


def test_a_chosen_calibration_must_be_of_the_weights_in_use(whole):
    store = whole.store()
    row, _ = with_calibration(DEFAULT, "default-site-1", store)
    assert row.version == f"{DEFAULT.version}-site"
    with pytest.raises(ConfigurationError, match="the product's weights"):
        with_calibration(DEFAULT, DEFAULT.calibration, store)
    whole.calibration("0" * 64)
    with pytest.raises(ModelIntegrityError, match="other weights"):
        with_calibration(DEFAULT, "default-site-1", whole.store())
