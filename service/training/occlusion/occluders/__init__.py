"""Things before a face, drawn with exact masks: for training and for measuring the occlusion gate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from service.training.occlusion.occluders.body import brow_line, fringe, hair, hand
from service.training.occlusion.occluders.dressings import (
    dummy,
    lip_tape,
    mouth_tube,
    nasal_tube,
    oxygen_mask,
    plaster,
    strips,
    surgical_mask,
    tape,
)
from service.training.occlusion.occluders.eyewear import eye_patch, glasses
from service.training.occlusion.occluders.harmless import eye_make_up, lipstick, stubble
from service.training.occlusion.occluders.lesions import cleft, lump, stain, sutures
from service.training.occlusion.occluders.stage import Cover, Maker, Stage, compose, stage_of
from service.training.occlusion.occluders.things import cloth, cup, microphone, thing

OCCLUDERS: Mapping[str, Maker] = MappingProxyType(
    {
        "glasses": glasses,
        "eye-patch": eye_patch,
        "nasal-tube": nasal_tube,
        "mouth-tube": mouth_tube,
        "tape": tape,
        "lip-tape": lip_tape,
        "strips": strips,
        "plaster": plaster,
        "surgical-mask": surgical_mask,
        "oxygen-mask": oxygen_mask,
        "dummy": dummy,
        "hand": hand,
        "hair": hair,
        "microphone": microphone,
        "cup": cup,
        "cloth": cloth,
        "thing": thing,
    }
)

HARMLESS: Mapping[str, Maker] = MappingProxyType(
    {
        "lipstick": lipstick,
        "eye-make-up": eye_make_up,
        "stubble": stubble,
        "fringe": fringe,
        "stain": stain,
        "lump": lump,
        "cleft": cleft,
        "sutures": sutures,
    }
)

__all__ = ["HARMLESS", "OCCLUDERS", "Cover", "Maker", "Stage", "brow_line", "compose", "stage_of"]
