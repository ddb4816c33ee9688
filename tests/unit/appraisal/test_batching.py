"""Forward passes are shared by threads, of one shape, and no result depends on who shared it."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from service.appraisal.appraiser import Appraiser
from service.appraisal.batching import Batches, Batching
from service.appraisal.methods.two_phase.normaliser import TEACHER
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.registry import COMPARATORS, NORMALISERS
from tests.unit.appraisal.photographs import portrait

pytestmark = pytest.mark.usefixtures("one_thread")


class Passes:
    """Doubles its items, and notes the batches it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: np.ndarray) -> list[int]:
        self.shapes.append(batch.shape)
        return [2 * int(item[0]) for item in batch]


def items(*values: int) -> list[np.ndarray]:
    return [np.array([value, 0], np.uint8) for value in values]


def test_batches_of_one_wait_for_nobody() -> None:
    passes = Passes()
    assert Batches(passes, Batching(size=1, longest_wait_s=600))(items(1, 2)) == [2, 4]
    assert passes.shapes == [(1, 2), (1, 2)]


def test_every_pass_has_the_same_shape() -> None:
    passes = Passes()
    batches = Batches(passes, Batching(size=4, longest_wait_s=0.0))
    assert batches(items(*range(6))) == [0, 2, 4, 6, 8, 10]
    assert batches([]) == []
    assert set(passes.shapes) == {(4, 2)}
    assert len(passes.shapes) == 2


def test_threads_share_a_pass() -> None:
    passes = Passes()
    batches = Batches(passes, Batching(size=8, longest_wait_s=600.0))  # only a full batch runs in time
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda value: batches(items(value))[0], range(16)))
    assert found == [2 * value for value in range(16)]
    assert passes.shapes == [(8, 2), (8, 2)]


def test_who_waits_for_a_running_pass_leads_no_other() -> None:
    """As leaders of the next batch they would hold their own result back until that one ends."""
    begun = {1: threading.Event(), 2: threading.Event()}
    go_on = {1: threading.Event(), 2: threading.Event()}

    def run(batch: np.ndarray) -> list[int]:
        number = int(batch[0][0])
        begun[number].set()
        assert go_on[number].wait(60)
        return [number] * len(batch)

    batches = Batches(run, Batching(size=2, longest_wait_s=600.0))
    with ThreadPoolExecutor(4) as threads:
        first = [threads.submit(batches, items(1)) for _ in range(2)]
        assert begun[1].wait(60)
        second = [threads.submit(batches, items(2)) for _ in range(2)]
        assert begun[2].wait(60)
        go_on[1].set()
        try:
            assert [task.result(10) for task in first] == [[1], [1]]
        finally:
            go_on[2].set()
        assert [task.result(60) for task in second] == [[2], [2]]


def test_a_lone_face_goes_when_it_has_waited_long_enough() -> None:
    assert Batches(Passes(), Batching(size=8, longest_wait_s=0.01))(items(3)) == [6]


def test_a_pass_that_fails_fails_for_all_who_shared_it_and_for_nobody_else() -> None:
    lucky = threading.Event()

    def run(batch: np.ndarray) -> list[int]:
        if not lucky.is_set():
            raise ValueError("out of memory")
        return [1] * len(batch)

    batches = Batches(run, Batching(size=2, longest_wait_s=600.0))
    with ThreadPoolExecutor(2) as threads:
        tasks = [threads.submit(batches, items(1)) for _ in range(2)]
        for task in tasks:
            with pytest.raises(ValueError, match="out of memory"):
                task.result(60)
    lucky.set()
    with ThreadPoolExecutor(2) as threads:
        assert [task.result(60) for task in [threads.submit(batches, items(1)) for _ in range(2)]] == [
            [1],
            [1],
        ]


@pytest.fixture(scope="module")
def photographs():
    """Portraits under different light; one is too dark to be judged."""
    gains = (1.0, 0.05, 0.8)
    return [
        photograph_from_rgb(np.clip(portrait() * np.float32(gain), 0, 255).astype(np.uint8)) for gain in gains
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The models in the repository, and a SqueezeNet drawn by chance in place of ImageNet's."""
    directory = tmp_path_factory.mktemp("models")
    file = directory / "squeeze.safetensors"
    torch.manual_seed(0)
    save_file(squeezenet1_1(weights=None).state_dict(), file)
    shipped = ModelStore()
    models = (*NORMALISERS["two-phase"].models, *COMPARATORS["deep-squeezenet-unit"].models)
    rows = {name: shipped.entry(name) for name in models}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    rows[TEACHER] = replace(rows[TEACHER], file=file.name, sha256=digest)
    return ModelStore(directory, manifest=rows)


@pytest.mark.parametrize("method", ["default", "two-phase"])
def test_a_result_does_not_depend_on_its_batch(finder, photographs, method, store):
    models = store if method == "two-phase" else ModelStore()
    alone = Appraiser(method, face_finder=finder, store=models)
    batched = Appraiser(method, face_finder=finder, store=models, batching=Batching(size=2))
    one_by_one = [alone.appraise_batch([each])[0] for each in photographs]
    together = alone.appraise_batch(photographs)
    by_one = [batched.appraise_batch([each])[0] for each in photographs]
    by_two = batched.appraise_batch(photographs)
    for results, others in ((one_by_one, together), (by_one, by_two)):
        for result, other in zip(results, others, strict=True):
            assert result.appraisal == other.appraisal  # to the last bit
            if result.maps is not None:
                assert np.array_equal(
                    result.maps.difference_aligned, other.maps.difference_aligned, equal_nan=True
                )
    for result, other in zip(one_by_one, by_two, strict=True):
        assert result.appraisal.score == pytest.approx(other.appraisal.score, abs=1e-4)
