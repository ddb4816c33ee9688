"""Every row of NORMALISERS and COMPARATORS keeps the contract of service.appraisal.tables."""

from __future__ import annotations

import numpy as np
import pytest

from service.appraisal.model_files.models import BROUGHT, ModelStore
from service.appraisal.registry import COMPARATORS, METHODS, NORMALISERS, find_method, identify
from service.appraisal.settings import AppraisalSettings
from service.appraisal.tables import Normalised, Workplace, lookup, table
from service.errors import ConfigurationError, ModelNotFoundError, UnknownMethodError

WITHOUT_FILES = [name for name, row in COMPARATORS.items() if not row.models]


@pytest.mark.parametrize("name", [n for n, row in NORMALISERS.items() if not row.models])
def test_normalisers_give_a_picture_in_register(name, aligned):
    normaliser = NORMALISERS[name].build(Workplace(store=ModelStore()))
    first, second = normaliser.normalise([aligned, aligned])
    assert first.rgb.shape == aligned.rgb.shape
    assert first.rgb.dtype == np.uint8
    assert first.valid.dtype == bool
    assert np.array_equal(first.rgb, second.rgb)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_comparators_give_nothing_for_equal_pictures_and_something_for_others(name, aligned):
    comparator = COMPARATORS[name].build(Workplace(store=ModelStore()))
    same = Normalised(rgb=aligned.rgb, valid=np.ones((256, 256), bool))
    other = Normalised(rgb=aligned.rgb[:, ::-1].copy(), valid=same.valid)
    nothing, something = comparator.compare([aligned, aligned], [same, other])
    assert nothing.shape == (256, 256)
    assert nothing.dtype == np.float32
    assert float(np.abs(nothing).max()) < 1e-4
    assert float(something.min()) >= 0
    assert float(something.mean()) > 1e-4


def test_names_are_keys_and_a_double_name_is_an_error():
    for rows in (NORMALISERS, COMPARATORS, METHODS):
        assert all(name == row.name for name, row in rows.items())
    row = METHODS["symmetry"]
    with pytest.raises(ConfigurationError):
        table([row, row])


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UnknownMethodError, match="symmetry"):
        lookup(NORMALISERS, "beauty", "normaliser")
    for name in ("beauty", "beauty+ssim", "symmetry+beauty"):
        with pytest.raises(UnknownMethodError):
            find_method(name)


def test_identities_differ_when_anything_differs():
    store, settings = ModelStore(), AppraisalSettings()
    base = identify(METHODS["symmetry"], settings, store)
    assert base == identify(METHODS["symmetry"], AppraisalSettings(), store)
    assert base != identify(METHODS["symmetry"], AppraisalSettings(max_yaw_deg=14), store)
    assert base != identify(find_method("symmetry+multiscale"), settings, store)
    assert base != identify(find_method("symmetry+ssim"), settings, store)


def test_rows_name_models_of_the_manifest():
    store = ModelStore()
    for row in (*NORMALISERS.values(), *COMPARATORS.values()):
        for model in row.models:
            if model not in BROUGHT:
                store.entry(model)
    with pytest.raises(ModelNotFoundError):
        store.entry("beauty")
