"""The Merkle tree against the roots that certificate transparency publishes, and its proofs."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audit.anchoring.merkle import EMPTY_ROOT, Frontier, inclusion_proof, root_of_proof

# Leaves and roots of the reference implementation of RFC 6962 (google/certificate-transparency).
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def grown(entries: list[bytes]) -> Frontier:
    tree = Frontier()
    for entry in entries:
        tree.add(entry)
    return tree


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_rfc_6962(size: int) -> None:
    assert grown(LEAVES[:size]).root().hex() == ROOTS[size - 1]


def test_an_empty_tree_has_the_digest_of_nothing() -> None:
    assert Frontier().root() == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.integers(1, 200), st.data())
def test_every_leaf_has_a_proof_and_no_other_entry_has_it(size: int, data: st.DataObject) -> None:
    entries = [number.to_bytes(4, "big") for number in range(size)]
    position = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(entries, position, size)
    root = grown(entries).root()
    assert root_of_proof(entries[position], position, size, path) == root
    assert root_of_proof(b"another", position, size, path) != root
    if size > 1:
        other = data.draw(st.integers(0, size - 1).filter(lambda each: each != position))
        with contextlib.suppress(ValueError):  # a path of another length
            assert root_of_proof(entries[position], other, size, path) != root
        with pytest.raises(ValueError, match="too"):
            root_of_proof(entries[position], position, size, [*path, b"0" * 32])
        with pytest.raises(ValueError, match="too short"):
            root_of_proof(entries[position], position, size, path[:-1])


def test_a_tree_goes_on_from_its_subtrees() -> None:
    half = grown(LEAVES[:5])
    other = Frontier(half.size, list(half.hashes))
    for entry in LEAVES[5:]:
        other.add(entry)
    assert other.root().hex() == ROOTS[7]
    assert half.root().hex() == ROOTS[4]


@pytest.mark.parametrize(("size", "subtrees"), [(3, 1), (4, 2), (0, 1), (-1, 0)])
def test_subtrees_that_are_not_the_sizes_are_refused(size: int, subtrees: int) -> None:
    with pytest.raises(ValueError, match="subtrees"):
        Frontier(size, [bytes(32)] * subtrees)
