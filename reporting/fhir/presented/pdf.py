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
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer

_FONT, _BOLD = "Vera", "VeraBd"  # come with reportlab
# Scripts that Vera lacks, in fonts that every viewer of PDF brings: first and last character of each.
_OTHERS = (
    ("HeiseiKakuGo-W5", 0x3040, 0x30FF),
    ("HYGothic-Medium", 0xAC00, 0xD7A3),
    ("STSong-Light", 0x2E80, 0x9FFF),
)
_MOST_PICTURE = (170 * mm, 90 * mm)  # width, height


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result: what it says, and its picture."""

    text: str
    picture: bytes | None  # PNG or JPEG; None where nothing could be judged


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
        if finding.picture is not None:
            parts.append(_image(finding.picture))
        story += [KeepTogether(parts), Spacer(1, 4 * mm)]
    story.append(Paragraph(_marked(pages.caution), small))
    made = BytesIO()
    document = SimpleDocTemplate(
        made, pagesize=A4, title=pages.title, invariant=1,
        leftMargin=20 * mm, rightMargin=20 * mm, topMargin=18 * mm, bottomMargin=18 * mm,
    )  # fmt: skip
    document.build(story)
    return made.getvalue()


def _image(data: bytes) -> Image:
    width, height = ImageReader(BytesIO(data)).getSize()
    scale = min(_MOST_PICTURE[0] / width, _MOST_PICTURE[1] / height)
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
