"""The pages of a report: whose it is, what was found, and a picture of each photograph (reportlab, BSD)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from io import BytesIO
from itertools import groupby

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

_FONT, _BOLD = "Vera", "VeraBd"  # come with reportlab
# Scripts that Vera lacks, in fonts that every viewer of PDF brings: first and last character of each.
_OTHERS = (
    ("HeiseiKakuGo-W5", 0x3040, 0x30FF),
    ("HYGothic-Medium", 0xAC00, 0xD7A3),
    ("STSong-Light", 0x2E80, 0x9FFF),
)
_MOST_PICTURE = (170 * mm, 90 * mm)  # width, height
_BESIDE, _COUNTERPART = (100 * mm, 90 * mm), (62 * mm, 62 * mm)
_HEATMAP_SAYS = "The photograph, with what differs from normal faces in colour."
_COUNTERPART_SAYS = (
    "The normal counterpart: the same face as its other parts let one expect it. What was changed is named."
)
_SIDE_BY_SIDE = [("LEFTPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "TOP")]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result: what it says, and its pictures."""

    text: str
    picture: bytes = b""  # PNG or JPEG: the heatmap over the photograph, or the triptych; b"" where none is
    counterpart: bytes = b""  # JPEG: the face as it would normally be; b"" where none was kept


@dataclass(frozen=True, kw_only=True)
class Pages:
    """What a report shows."""

    title: str
    facts: Sequence[tuple[str, str]]  # of patient, study and report: name and value
    findings: Sequence[Finding]
    caution: str


@cache
def _fonts() -> None:
    pdfmetrics.registerFont(TTFont(_FONT, "Vera.ttf"))
    pdfmetrics.registerFont(TTFont(_BOLD, "VeraBd.ttf"))
    for name, _, _ in _OTHERS:
        pdfmetrics.registerFont(UnicodeCIDFont(name))


def render(pages: Pages) -> bytes:
    """Make the PDF; the same pages make the same bytes."""
    _fonts()
    plain = ParagraphStyle("plain", fontName=_FONT, fontSize=9.5, leading=13, spaceAfter=4)
    heading = ParagraphStyle("heading", parent=plain, fontName=_BOLD, fontSize=15, leading=19, spaceAfter=8)
    small = ParagraphStyle("small", parent=plain, fontSize=8, leading=11)
    story: list[Flowable] = [Paragraph(_marked(pages.title), heading)]
    story += [Paragraph(f"{_marked(name)}: {_marked(value)}", plain) for name, value in pages.facts]
    story.append(Spacer(1, 5 * mm))
    for finding in pages.findings:
        parts: list[Flowable] = [Paragraph(_marked(finding.text), plain)]
        if finding.picture:
            parts.append(_pictures(finding, small))
        story += [KeepTogether(parts), Spacer(1, 4 * mm)]
    story.append(Paragraph(_marked(pages.caution), small))
    made = BytesIO()
    document = SimpleDocTemplate(
        made, pagesize=A4, title=pages.title, invariant=1,
        leftMargin=20 * mm, rightMargin=20 * mm, topMargin=18 * mm, bottomMargin=18 * mm,
    )  # fmt: skip
    document.build(story)
    return made.getvalue()


def _pictures(finding: Finding, small: ParagraphStyle) -> Flowable:
    """The picture; with the normal counterpart beside it, each with what it is."""
    if not finding.counterpart:
        return _image(finding.picture, _MOST_PICTURE)
    cells: list[list[Flowable]] = [
        [_image(finding.picture, _BESIDE), _image(finding.counterpart, _COUNTERPART)],
        [Paragraph(_HEATMAP_SAYS, small), Paragraph(_COUNTERPART_SAYS, small)],
    ]
    return Table(cells, colWidths=[_BESIDE[0] + 3 * mm, _COUNTERPART[0]], style=_SIDE_BY_SIDE)


def _image(data: bytes, most: tuple[float, float]) -> Image:
    width, height = ImageReader(BytesIO(data)).getSize()
    scale = min(most[0] / width, most[1] / height)
    return Image(BytesIO(data), width=width * scale, height=height * scale)


def _marked(text: str) -> str:
    """Text as reportlab's markup, each script in a font that has it."""
    made = []
    for font, characters in groupby(text, _font_of):
        piece = escape("".join(characters))
        made.append(piece if font == _FONT else f'<font name="{font}">{piece}</font>')
    return "".join(made)


def _font_of(character: str) -> str:
    return next((name for name, first, last in _OTHERS if first <= ord(character) <= last), _FONT)
