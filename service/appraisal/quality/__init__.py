"""Quality of a photograph: measures in physical units, and the gates that stand on them."""

from service.appraisal.gates.quality import SHARPNESS_INTER_OCULAR_PX, check_quality

__all__ = ["SHARPNESS_INTER_OCULAR_PX", "check_quality"]
