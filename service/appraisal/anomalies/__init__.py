"""Synthetic anomalies of known severity, with exact ground truth and sham controls."""

from service.appraisal.anomalies.anatomy import inter_ocular_distance
from service.appraisal.anomalies.change import (
    Change,
    Paint,
    Rendered,
    change_mask,
    forward_points,
    minimum_jacobian,
    render,
    undoing_displacement,
)
from service.appraisal.anomalies.family import RANDOM
from service.appraisal.anomalies.fields import Canvas, Maker
from service.appraisal.anomalies.lips import normal_lip, read_lip_shapes
from service.appraisal.anomalies.named import NAMED, named_types

__all__ = [
    "NAMED",
    "RANDOM",
    "Canvas",
    "Change",
    "Maker",
    "Paint",
    "Rendered",
    "change_mask",
    "forward_points",
    "inter_ocular_distance",
    "minimum_jacobian",
    "named_types",
    "normal_lip",
    "read_lip_shapes",
    "render",
    "undoing_displacement",
]
