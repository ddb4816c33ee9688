"""The border to the decoders: what comes through, what is refused, and what a stranger's bytes cannot do."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import psutil
import pytest
from imagecodecs import jpeg8_encode
from PIL import Image

from service.codecs.codestream import announced
from service.codecs.decode import decode_frame, read_picture
from service.codecs.pool import CodecPool, Limits
from service.errors import DecoderLostError, PhotographError, UndecodablePhotographError
from tests.unit.service.codecs.streams import FAMILIES, geometry, mutated, pixels, stream
from tests.waiting import wait_until

LOSSLESS = ("lossless", "lossless-12", "jpeg-ls", "jpeg-2000")


@pytest.fixture(scope="module")
def pool():
    made = CodecPool(2)
    yield made
    made.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_through(pool, family):
    codestream, described = stream(family)
    decoded = decode_frame(codestream, described, pool)
    expected = pixels().astype(int) * (16 if "12" in family else 1)
    assert decoded.photometric_interpretation == "RGB"
    assert decoded.pixels.shape == expected.shape
    difference = np.abs(decoded.pixels.astype(int) - expected)
    assert difference.max() == 0 if family in LOSSLESS else difference.mean() < (60 if "12" in family else 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_of_another_size_never_reaches_a_decoder(family):
    codestream, described = stream(family)
    unused = CodecPool(1)
    changes = [{"rows": 8}, {"columns": described.columns + 1}]
    if family not in ("jpeg", "progressive"):  # which say by themselves what their components are
        changes.append({"samples_per_pixel": 1})
    for change in changes:
        with pytest.raises(UndecodablePhotographError):
            decode_frame(codestream, replace(described, **change), unused)
    assert unused.pids() == []


@pytest.mark.parametrize("claimed", [24_000, 60_000])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_that_claims_to_be_huge_is_refused_unread(family, claimed):
    """The bomb: a few bytes whose header asks a decoder for gigabytes."""
    codestream, described = stream(family)
    grown = bytearray(codestream)
    if family == "jpeg-2000":
        struct.pack_into(">II", grown, 8, claimed, claimed)
        struct.pack_into(">II", grown, 24, claimed, claimed)
    else:
        at = codestream.index(struct.pack(">HH", described.rows, described.columns))
        struct.pack_into(">HH", grown, at, claimed, claimed)
    unused = CodecPool(1)
    with pytest.raises(UndecodablePhotographError, match=str(claimed)):
        decode_frame(bytes(grown), described, unused)
    assert unused.pids() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_streams_end_no_child(pool, family):
    """The small form of bench/fuzz.py."""
    whole, described = stream(family)
    rng = np.random.default_rng(17)
    decode_frame(whole, described, pool)
    before = sorted(pool.pids())
    for _ in range(60):
        with contextlib.suppress(PhotographError):
            decode_frame(mutated(whole, rng), described, pool)
    assert sorted(pool.pids()) == before


def test_a_header_that_ends_anywhere_is_undecodable():
    for family in FAMILIES:
        codestream, _ = stream(family)
        for length in range(0, 60):
            with contextlib.suppress(UndecodablePhotographError):
                announced(codestream[:length])


def test_what_takes_too_long_is_ended_and_the_next_one_is_served():
    limits = Limits(cpu_s=0.5, cpu_s_per_byte=0.0, wall_factor=200)
    slow = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8)
    codestream, described = stream("jpeg-2000", slow)
    pool = CodecPool(1, limits)
    with contextlib.closing(pool):
        with pytest.raises(DecoderLostError, match="too long"):
            decode_frame(codestream, described, pool)
        decode_frame(*stream("jpeg"), pool)


def test_what_needs_too_much_memory_is_undecodable():
    limits = Limits(memory_bytes=8 << 20, memory_per_byte=0.0)
    codestream, described = stream("jpeg-2000", np.zeros((3000, 3000, 3), np.uint8))
    pool = CodecPool(1, limits)
    with contextlib.closing(pool):
        with pytest.raises(PhotographError):
            decode_frame(codestream, described, pool)
        decode_frame(*stream("jpeg"), pool)


def test_a_child_that_ended_at_rest_is_nobodys_fault():
    pool = CodecPool(1)
    with contextlib.closing(pool):
        decode_frame(*stream("jpeg"), pool)
        (pid,) = pool.pids()
        psutil.Process(pid).kill()
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, timeout_s=10, what="its end")
        decode_frame(*stream("jpeg"), pool)
        assert pool.pids() != [pid]


def test_a_child_ends_with_its_pool_and_holds_no_setting(monkeypatch):
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", "postgresql://secret")
    pool = CodecPool(1)
    decode_frame(*stream("jpeg"), pool)
    (pid,) = pool.pids()
    child = psutil.Process(pid)
    assert not {name for name in child.environ() if name.startswith("SEMBLANCE")}
    assert child.cwd() == "/"
    pool.close()
    assert not psutil.pid_exists(pid)


def test_nobody_can_write_to_what_was_decoded(pool):
    decoded = decode_frame(*stream("jpeg"), pool)
    assert not decoded.pixels.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        decoded.pixels.flags.writeable = True


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_that_claims_to_be_huge_is_refused(pool, kind):
    out = io.BytesIO()
    Image.new("RGB", (48, 48)).save(out, kind)
    grown = bytearray(out.getvalue())
    if kind == "PNG":
        struct.pack_into(">II", grown, 16, 60_000, 60_000)
        struct.pack_into(">I", grown, 29, zlib.crc32(grown[12:29]))
    else:
        at = grown.index(struct.pack(">HH", 48, 48))
        struct.pack_into(">HH", grown, at, 60_000, 60_000)
    with pytest.raises(PhotographError):
        read_picture(bytes(grown), pool)
    assert read_picture(out.getvalue(), pool).rgb.shape == (48, 48, 3)


def test_grey_of_twelve_bits_keeps_its_values(pool):
    grey = pixels()[..., 0].astype(np.uint16) * 16
    decoded = decode_frame(
        jpeg8_encode(grey, lossless=True, bitspersample=12), geometry(grey, 12, "MONOCHROME2"), pool
    )
    assert np.array_equal(decoded.pixels, grey)
