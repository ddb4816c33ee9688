"""Units: which landmarks are displaced as one."""

from service.appraisal.methods.localised.counterpart.units import UNITS, Side
from service.appraisal.methods.localised.views import LANDMARKS, MIRRORED


def mirrored(points):
    return tuple(sorted(MIRRORED[point] for point in points))


def test_each_unit_of_one_side_has_its_mirror_image_on_the_other():
    by_name = {unit.name: unit for unit in UNITS}
    assert len(by_name) == len(UNITS)
    for unit in UNITS:
        if unit.side is Side.BOTH:
            assert mirrored(unit.points) == unit.points, unit.name
            continue
        other = by_name[
            unit.name.replace(*("right", "left") if unit.side is Side.RIGHT else ("left", "right"))
        ]
        assert other.side is not unit.side
        assert mirrored(unit.points) == other.points, unit.name
        assert mirrored(unit.texture) == other.texture


def test_right_is_the_patients_and_lies_left_in_the_picture(face):
    mesh = face.landmarks
    for unit in UNITS:
        if unit.side is not Side.BOTH:
            across = mesh[[LANDMARKS[point] for point in unit.points], 0].mean() - mesh[1, 0]
            assert bool(across < 0) is (unit.side is Side.RIGHT), unit.name


def test_only_what_a_lid_can_hide_is_taken_from_the_other_side():
    for unit in UNITS:
        assert bool(unit.texture) is (
            unit.side is not Side.BOTH and ("lid" in unit.name or "eye" in unit.name)
        )
