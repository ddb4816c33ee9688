"""Anatomical units: what of a face is displaced as one, by the landmarks of the branch.

A unit is the smallest part that surgeons and palsies move. Wide ones hold narrow ones, so that a
lip that is moved as a whole is not taken for several that are moved a little.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from service.appraisal.methods.localised.views import LANDMARKS, MIRRORED


class Side(StrEnum):
    """The patient's."""

    RIGHT = "right"
    LEFT = "left"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Landmarks that are displaced as one."""

    name: str  # in words, with the side
    side: Side
    points: tuple[int, ...]  # positions in LANDMARKS, ascending
    # Those around what is taken from the other side, () for nothing. A lid that hides an eye hides what a
    # normal face shows there; a lip, an ala or a brow is all there and has to be moved only.
    texture: tuple[int, ...] = ()


_UPPER_LIP_RIGHT: Final = (40, 39, 37, 80, 81, 82, 185, 191)
_UPPER_LIP: Final = (
    *(185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(191, 80, 81, 82, 13, 312, 311, 310, 415),
)
_LOWER_LIP: Final = (
    *(375, 321, 405, 314, 17, 84, 181, 91, 146),
    *(324, 318, 402, 317, 14, 87, 178, 88, 95),
)
_COMMISSURE_RIGHT: Final = (61, 185, 40, 78, 191, 80, 146, 91, 95, 88)
_MOUTH_RIGHT: Final = (*(61, 185, 40, 39, 37, 78, 191, 80, 81, 82), *(146, 91, 181, 84, 95, 88, 178, 87))
_UPPER_LID_RIGHT: Final = (160, 159, 158)
_LOWER_LID_RIGHT: Final = (144, 145, 153)
_EYE_RIGHT: Final = (33, 133, *_UPPER_LID_RIGHT, *_LOWER_LID_RIGHT)
_BROW_RIGHT: Final = LANDMARKS[56:61]
_ALA_RIGHT: Final = (129, 98, 97)
_NOSE_TIP: Final = (1, 4, 129, 98, 97, 2, 326, 327, 358)
_CHIN: Final = (149, 148, 152, 377, 378)
_JAW_RIGHT: Final = (58, 136, 149, 148)
_JAW: Final = (58, 136, 149, 148, 152, 377, 378, 365, 288)


def _positions(mesh: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({LANDMARKS.index(point) for point in mesh}))


def _mirrored(positions: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(MIRRORED[position] for position in positions))


def _both_sides(name: str, mesh: tuple[int, ...], texture: tuple[int, ...] = ()) -> tuple[Unit, Unit]:
    own, around = _positions(mesh), _positions(texture)
    return (
        Unit(name=f"right {name}", side=Side.RIGHT, points=own, texture=around),
        Unit(name=f"left {name}", side=Side.LEFT, points=_mirrored(own), texture=_mirrored(around)),
    )


def _middle(name: str, mesh: tuple[int, ...]) -> Unit:
    own = _positions(mesh)
    return Unit(name=name, side=Side.BOTH, points=own)


def _eyes(mesh: tuple[int, ...]) -> tuple[int, ...]:
    own = _positions(mesh)
    return tuple(LANDMARKS[position] for position in (*own, *_mirrored(own)))


UNITS: Final[tuple[Unit, ...]] = (
    *_both_sides("half of the upper lip", _UPPER_LIP_RIGHT),
    _middle("middle of the upper lip", (37, 0, 267, 39, 269, 82, 13, 312)),
    _middle("Cupid's bow", (37, 0, 267, 39, 269)),
    _middle("upper lip", _UPPER_LIP),
    _middle("lower lip", _LOWER_LIP),
    *_both_sides("corner of the mouth", _COMMISSURE_RIGHT),
    *_both_sides("half of the mouth", _MOUTH_RIGHT),
    _middle("mouth", LANDMARKS[:40]),
    *_both_sides("upper lid", _UPPER_LID_RIGHT, _EYE_RIGHT),
    *_both_sides("lower lid", _LOWER_LID_RIGHT, _EYE_RIGHT),
    *_both_sides("eye", _EYE_RIGHT, _EYE_RIGHT),
    _middle("eyes", _eyes(_EYE_RIGHT)),
    _middle("eyes and brows", _eyes((*_EYE_RIGHT, *_BROW_RIGHT))),
    _middle("upper lids", _eyes(_UPPER_LID_RIGHT)),
    *_both_sides("brow", _BROW_RIGHT),
    *_both_sides("upper lid and brow", (*_UPPER_LID_RIGHT, *_BROW_RIGHT), _EYE_RIGHT),
    _middle("tip and base of the nose", _NOSE_TIP),
    _middle("nose", LANDMARKS[66:78]),
    *_both_sides("ala of the nose", _ALA_RIGHT),
    _middle("chin", _CHIN),
    _middle("chin and lower lip", (*_CHIN, *_LOWER_LIP)),
    *_both_sides("side of the jaw", _JAW_RIGHT),
    _middle("jaw", _JAW),
    *_both_sides("side of the face", (*_COMMISSURE_RIGHT, *_LOWER_LID_RIGHT, *_BROW_RIGHT)),
)
