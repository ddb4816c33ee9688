"""Every code, code system and unit we write, each with its source.

Codes of DICOM (DCM) and SNOMED CT (SCT) are those printed in DICOM PS3.16 2024 (context groups named
beside them, as carried by pydicom's dictionaries), except where another source is named. What no public
code system has is in our own, ``CODE_SYSTEM``, whose concepts are listed here as data, published as a
FHIR CodeSystem and identified in each DICOM object that uses it (PS3.3 section 12.1.1.4.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from reporting.identifiers import named_uid
from service.marks import CODING_SCHEME
from service.records import ExclusionReason, Region, RejectionReason


@dataclass(frozen=True, kw_only=True)
class CodeSystem:
    """A code system under its DICOM and its FHIR name."""

    designator: str  # Coding Scheme Designator (0008,0102), PS3.16 section 8
    uri: str  # FHIR canonical, R4 terminologies-systems
    uid: str  # Coding Scheme UID (0008,010C), PS3.16 Table 8-1
    name: str


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A coded concept."""

    system: CodeSystem
    code: str
    display: str  # code meaning, at most 64 ASCII characters (LO)


DCM = CodeSystem(
    designator="DCM",
    uri="http://dicom.nema.org/resources/ontology/DCM",
    uid="1.2.840.10008.2.16.4",
    name="DICOM Controlled Terminology",
)
SCT = CodeSystem(
    designator="SCT", uri="http://snomed.info/sct", uid="2.16.840.1.113883.6.96", name="SNOMED CT"
)
LN = CodeSystem(designator="LN", uri="http://loinc.org", uid="2.16.840.1.113883.6.1", name="LOINC")
UCUM = CodeSystem(
    designator="UCUM",
    uri="http://unitsofmeasure.org",
    uid="2.16.840.1.113883.6.8",
    name="Unified Code for Units of Measure",
)

# Our own. PS3.16 section 8.2: private designators begin with 99. The UID is UUID-derived, and is the
# FHIR canonical too (urn:oid), so that both worlds name the same system with no registered domain.
_OWN_UID = named_uid("code-system", "semblance")
CODE_SYSTEM = CodeSystem(designator=CODING_SCHEME, uri=f"urn:oid:{_OWN_UID}", uid=_OWN_UID, name="Semblance")
CODE_SYSTEM_VERSION = "1"


def _dcm(code: str, display: str) -> Concept:
    return Concept(system=DCM, code=code, display=display)


def _sct(code: str, display: str) -> Concept:
    return Concept(system=SCT, code=code, display=display)


def _ucum(code: str, display: str) -> Concept:
    return Concept(system=UCUM, code=code, display=display)


def _own(code: str, display: str) -> Concept:
    return Concept(system=CODE_SYSTEM, code=code, display=display)


# --- units (UCUM; annotations in braces are dimensionless)
SCORE_UNIT = _ucum("{score}", "score")
RATING_UNIT = _ucum("{rating}", "rating")
PERCENTILE_UNIT = _ucum("{percentile}", "percentile")
STANDARD_DEVIATION_UNIT = _ucum("{SD}", "standard deviations")
FRACTION_UNIT = _ucum("1", "no units")  # CID 7181
PERCENT_UNIT = _ucum("%", "percent")  # CID 7181
DEGREE_UNIT = _ucum("deg", "degree")  # CID 3082
PIXEL_UNIT = _ucum("{pixels}", "pixels")  # PS3.16 TID 1602

# --- measurements (our own concepts)
SCORE = _own("score", "Facial normality score")
RATING = _own("rating", "Facial normality rating, 1 least to 7 most normal")
PERCENTILE = _own("percentile", "Facial normality percentile in the normal cohort")
REGION_Z = _own("region-z", "Anomaly, standard deviations above the normal cohort")
JUDGED_FRACTION = _own("judged-fraction", "Fraction of the region that was judged")
DIFFERENCE_MAP = _own("difference-map", "Difference from the normal reference")
OUTCOME = _own("outcome", "Appraisal outcome")
OUTCOME_APPRAISED = _own("appraised", "Photograph appraised")
OUTCOME_REJECTED = _own("rejected", "Photograph rejected")
REJECTION_REASON = _own("rejection-reason", "Reason the photograph was rejected")
EXCLUSION_REASON = _own("exclusion-reason", "Reason the region was left out")
FACIAL_APPRAISAL = _own("facial-appraisal", "Appraisal of facial difference from a photograph")
CHANGE = _own("change", "Change of the facial normality score after surgery")
MIXED_STUDY = _own("mixed-study", "Study that holds photographs of more than one patient")
COMPARISON_WITH_REFERENCE = _own("comparison", "Comparison with a normal reference of the face")

# --- quality measures (ours)
QUALITY_FACES = _own("q-faces", "Faces found")
QUALITY_INTER_OCULAR = _own("q-inter-ocular", "Distance of the eye centres")
QUALITY_SHARPNESS = _own("q-sharpness", "Sharpness, variance of the Laplacian")
QUALITY_LUMINANCE = _own("q-luminance", "Mean luminance of the face, 0 to 255")
QUALITY_CLIPPED = _own("q-clipped", "Fraction of the face clipped")
QUALITY_YAW = _own("q-yaw", "Head yaw, positive to the patient's left")
QUALITY_PITCH = _own("q-pitch", "Head pitch, positive up")
QUALITY_ROLL = _own("q-roll", "Head roll, positive anticlockwise in the picture")
QUALITY_BLOCKINESS = _own("q-blockiness", "JPEG blockiness")
QUALITY_NOISE = _own("q-noise", "Noise sigma, 0 to 255")
QUALITY_JPEG = _own("q-jpeg", "JPEG quality, estimated, 1 to 100")
QUALITY_BLUR = _own("q-blur", "Blur sigma, percent of the inter-ocular distance")
QUALITY_EXPOSURE = _own("q-exposure", "Exposure of the face over 18 percent grey, stops")
QUALITY_LIGHT = _own("q-light", "Light, patient's left over right, stops")
QUALITY_OCCLUDED = _own("q-occluded", "Fraction of the face that is covered")

QUALITY_MEASURES: dict[str, tuple[Concept, Concept]] = {  # by field of QualityMeasures: name and unit
    "faces": (QUALITY_FACES, FRACTION_UNIT),
    "inter_ocular_px": (QUALITY_INTER_OCULAR, PIXEL_UNIT),
    "sharpness": (QUALITY_SHARPNESS, FRACTION_UNIT),
    "mean_luminance": (QUALITY_LUMINANCE, FRACTION_UNIT),
    "clipped_fraction": (QUALITY_CLIPPED, FRACTION_UNIT),
    "yaw_deg": (QUALITY_YAW, DEGREE_UNIT),
    "pitch_deg": (QUALITY_PITCH, DEGREE_UNIT),
    "roll_deg": (QUALITY_ROLL, DEGREE_UNIT),
    "blockiness": (QUALITY_BLOCKINESS, FRACTION_UNIT),
    "noise_sigma": (QUALITY_NOISE, FRACTION_UNIT),
    "jpeg_quality": (QUALITY_JPEG, FRACTION_UNIT),
    "blur_percent": (QUALITY_BLUR, PERCENT_UNIT),
    "exposure_ev": (QUALITY_EXPOSURE, FRACTION_UNIT),
    "light_asymmetry_ev": (QUALITY_LIGHT, FRACTION_UNIT),
    "occluded_fraction": (QUALITY_OCCLUDED, FRACTION_UNIT),
}

REJECTION_REASONS: dict[RejectionReason, Concept] = {
    RejectionReason.UNDECODABLE: _own("undecodable", "Pixel data cannot be decoded"),
    RejectionReason.UNSUPPORTED: _own("unsupported", "Kind of image not appraised"),
    RejectionReason.NO_FACE: _own("no-face", "No face found"),
    RejectionReason.SEVERAL_FACES: _own("several-faces", "More than one face found"),
    RejectionReason.FACE_TOO_SMALL: _own("face-too-small", "Face too small"),
    RejectionReason.FACE_CUT_OFF: _own("face-cut-off", "Face cut off by the edge of the picture"),
    RejectionReason.BLURRED: _own("blurred", "Face out of focus or blurred by motion"),
    RejectionReason.UNDEREXPOSED: _own("underexposed", "Face underexposed"),
    RejectionReason.OVEREXPOSED: _own("overexposed", "Face overexposed"),
    RejectionReason.YAW: _own("yaw", "Head turned to one side beyond the limit"),
    RejectionReason.PITCH: _own("pitch", "Head tilted up or down beyond the limit"),
    RejectionReason.COMPRESSED: _own("compressed", "Too strongly compressed"),
    RejectionReason.NOISY: _own("noisy", "Too much noise"),
    RejectionReason.UNEVEN_LIGHT: _own("uneven-light", "Lit too much from one side"),
    RejectionReason.TURNED: _own("turned", "Photograph turned on its side or upside down"),
    RejectionReason.SQUEEZED: _own("squeezed", "Picture squeezed or stretched"),
    RejectionReason.DAMAGED: _own("damaged", "Pieces of the picture missing"),
    RejectionReason.OCCLUDED: _own("occluded", "Too much of the face covered"),
}

EXCLUSION_REASONS: dict[ExclusionReason, Concept] = {
    ExclusionReason.OCCLUDED: _own("r-occluded", "Region covered"),
    ExclusionReason.CUT_OFF: _own("r-cut-off", "Region outside the picture"),
    ExclusionReason.NO_REFERENCE: _own("r-no-reference", "Nothing to compare the region with"),
}

# A score of each region, for systems that want one code a region (FHIR component.code).
REGION_SCORES: dict[Region, Concept] = {
    region: _own(f"s-{region}", f"Facial normality score of the {region.replace('-', ' ')}")
    for region in Region
}


# The z-score of each region, likewise.
REGION_Z_SCORES: dict[Region, Concept] = {
    region: _own(f"z-{region}", f"z-score of the {region.replace('-', ' ')} in the normal cohort")
    for region in Region
}


# Change of each region's score from the photograph before surgery to the one after it.
REGION_CHANGES: dict[Region, Concept] = {
    region: _own(f"c-{region}", f"Change of the score of the {region.replace('-', ' ')} after surgery")
    for region in Region
}


# How far the sides differ: score of the patient's left less that of the right; (left, right) -> concept.
ASYMMETRIES: dict[tuple[Region, Region], Concept] = {
    (Region.LEFT_EYE, Region.RIGHT_EYE): _own(
        "d-eye", "Asymmetry of the eyes, score of the left less the right"
    ),
    (Region.LEFT_CHEEK, Region.RIGHT_CHEEK): _own(
        "d-cheek", "Asymmetry of the cheeks, score of the left less the right"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where on the face: an anatomic concept, with laterality and a modifier where one is needed."""

    concept: Concept
    laterality: Concept | None = None
    modifier: Concept | None = None  # topographical modifier, CID 2


LEFT = _sct("7771000", "Left")  # CID 244
RIGHT = _sct("24028007", "Right")  # CID 244
SUPERIOR = _sct("264217000", "Superior")  # CID 2
INFERIOR = _sct("261089000", "Inferior")  # CID 2
FACE = _sct("89545001", "Face")  # CID 4
EYE = _sct("81745001", "Eye")  # CID 4
NOSE = _sct("45206002", "Nose")  # CID 4
LIP = _sct("48477009", "Lip")  # CID 7151
CHEEK = _sct("60819002", "Cheek")  # CID 4
SKIN_OF_CHIN = _sct("23747009", "Skin of chin")  # CID 4029
SKIN_OF_FOREHEAD = _sct("68698007", "Skin of forehead")  # CID 4029
ORONASAL = _own("oronasal", "Oral and nasal region of the face")  # region of paper 000; no public code

SITES: dict[Region, Site] = {
    Region.FACE: Site(concept=FACE),
    Region.LEFT_EYE: Site(concept=EYE, laterality=LEFT),
    Region.RIGHT_EYE: Site(concept=EYE, laterality=RIGHT),
    Region.NOSE: Site(concept=NOSE),
    Region.UPPER_LIP: Site(concept=LIP, modifier=SUPERIOR),
    Region.LOWER_LIP: Site(concept=LIP, modifier=INFERIOR),
    Region.ORONASAL: Site(concept=ORONASAL),
    Region.LEFT_CHEEK: Site(concept=CHEEK, laterality=LEFT),
    Region.RIGHT_CHEEK: Site(concept=CHEEK, laterality=RIGHT),
    Region.CHIN: Site(concept=SKIN_OF_CHIN),
    Region.FOREHEAD: Site(concept=SKIN_OF_FOREHEAD),
}

# --- public codes
PHOTOGRAPHY_OF_PATIENT = _sct("197157006", "Photography of patient")  # CID 8131
IMAGING_PROCEDURE = _sct("363679005", "Imaging procedure")  # CID 100
EXTERNAL_CAMERA_PHOTOGRAPHY = _dcm("XC", "External-camera Photography")  # CID 29
OTHER_MODALITY = _dcm("OT", "Other Modality")  # CID 29
SOURCE_IMAGE_FOR_PROCESSING = _dcm("121322", "Source image for image processing operation")  # CID 7202
SPATIAL_RESAMPLING = _dcm("113085", "Spatial resampling")  # CID 7203
ARTIFICIAL_INTELLIGENCE = _dcm("123110", "Artificial Intelligence")  # CID 7162
SALIENCY = _dcm("130404", "Saliency")  # CID 217
ACQUISITION_EQUIPMENT = _dcm("109101", "Acquisition Equipment")  # CID 7005
PROCESSING_EQUIPMENT = _dcm("109102", "Processing Equipment")  # CID 7005
PERCENTILE_RANKING = _dcm("121415", "Percentile Ranking of measurement")  # CID 221
MEASUREMENT_NOT_ATTEMPTED = _dcm("114007", "Measurement not attempted")  # CID 42
COMMENT = _dcm("121106", "Comment")  # TID 300
ILLUSTRATION_OF_ROI = _dcm("121200", "Illustration of ROI")  # TID 1410
IMAGE_QUALITY = _dcm("111101", "Image Quality")  # CID 6014
QUALITY_ISSUE = _dcm("113010", "Quality Issue")  # CID 7010
REJECTED_FOR_QUALITY = _dcm("113001", "Rejected for Quality Reasons")  # CID 7010
AI_RESULT_TITLE = _dcm("126000", "Imaging Measurement Report")  # CID 7021
PHOTOGRAPHIC_IMAGE_DOCUMENT = Concept(
    system=LN, code="72170-4", display="Photographic image"
)  # LOINC, a document code
DIAGNOSTIC_IMAGING_STUDY = Concept(system=LN, code="18748-4", display="Diagnostic imaging study")  # LOINC
PREOPERATIVE = _sct("262068006", "Preoperative")
POSTOPERATIVE = _sct("262061000", "Postoperative")

OWN_CONCEPTS: tuple[Concept, ...] = (
    SCORE,
    RATING,
    PERCENTILE,
    REGION_Z,
    JUDGED_FRACTION,
    DIFFERENCE_MAP,
    OUTCOME,
    OUTCOME_APPRAISED,
    OUTCOME_REJECTED,
    REJECTION_REASON,
    FACIAL_APPRAISAL,
    COMPARISON_WITH_REFERENCE,
    CHANGE,
    MIXED_STUDY,
    QUALITY_FACES,
    QUALITY_INTER_OCULAR,
    QUALITY_SHARPNESS,
    QUALITY_LUMINANCE,
    QUALITY_CLIPPED,
    QUALITY_YAW,
    QUALITY_PITCH,
    QUALITY_ROLL,
    QUALITY_BLOCKINESS,
    QUALITY_NOISE,
    QUALITY_JPEG,
    QUALITY_BLUR,
    QUALITY_EXPOSURE,
    QUALITY_LIGHT,
    QUALITY_OCCLUDED,
    ORONASAL,
    *REJECTION_REASONS.values(),
    EXCLUSION_REASON,
    *EXCLUSION_REASONS.values(),
    *REGION_SCORES.values(),
    *REGION_Z_SCORES.values(),
    *ASYMMETRIES.values(),
    *REGION_CHANGES.values(),
)

# Why a patient's record is opened: value set v3-PurposeOfUse of HL7 (R4, code system v3-ActReason of
# 2018-08-12), those that fit a service for clinical photographs, each with its display there.
PURPOSE_OF_USE = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
PURPOSES = {
    "TREAT": "treatment",
    "ETREAT": "Emergency Treatment",
    "HQUALIMP": "health quality improvement",
    "HRESCH": "healthcare research",
    "PATRQT": "patient requested",
}
