"""Whether a narrative is the XHTML that R4 allows (narrative.html, txt-1, txt-2): nothing in it acts.

Viewers show narratives as they are; one with a script would run in the reader's name.
"""

from __future__ import annotations

import re
from html.entities import name2codepoint
from xml.parsers import expat

_XHTML = "http://www.w3.org/1999/xhtml"
_TAGS = frozenset(
    {
        "div", "p", "span", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "a", "b", "i", "em",
        "strong", "small", "big", "tt", "pre", "code", "samp", "kbd", "var", "cite", "dfn", "abbr",
        "acronym", "q", "blockquote", "sub", "sup", "ul", "ol", "li", "dl", "dt", "dd", "table",
        "caption", "thead", "tbody", "tfoot", "tr", "td", "th", "colgroup", "col", "img", "address",
        "bdo", "ins", "del",
    }
)  # fmt: skip
_ATTRIBUTES = frozenset(
    {
        "style", "title", "class", "id", "lang", "dir", "href", "name", "src", "alt", "width", "height",
        "border", "cellpadding", "cellspacing", "colspan", "rowspan", "headers", "scope", "abbr",
        "axis", "align", "valign", "span", "summary", "start", "type", "value", "cite", "char",
        "charoff", "frame", "rules", "nowrap", "datetime",
    }
)  # fmt: skip
_ACTS = re.compile(r"(?i)(javascript|vbscript|data\s*:\s*text)|expression\s*\(|url\s*\(|@import|behavior\s*:")
_LINK = re.compile(r"(?i)(https?://|mailto:|tel:|#|urn:|[A-Za-z0-9._-]+(/|\Z))")
_IMAGE = re.compile(r"(?i)(https?://|#|cid:|data:image/(png|jpe?g|gif);base64,|[A-Za-z0-9._-]+(/|\Z))")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_OF_XML = ("amp", "lt", "gt", "quot", "apos")


def fault_of(div: str) -> str:
    """What is wrong with the text of ``Narrative.div``; "" when nothing is."""
    faults: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = 0
    has_content = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, has_content
        namespace, _, tag = name.rpartition(" ")
        if depth == 0 and (tag != "div" or namespace != _XHTML):
            faults.append("a narrative is one div of XHTML")
        if namespace != _XHTML or tag not in _TAGS:
            faults.append(f"a narrative has no <{tag}>")
        for attribute, value in attributes.items():
            faults.extend(_attribute_faults(tag, attribute, value))
        has_content = has_content or tag == "img"
        depth += 1

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def text(data: str) -> None:
        nonlocal has_content
        has_content = has_content or bool(data.strip())

    def doctype(*_: object) -> None:
        faults.append("a narrative has no DOCTYPE")

    def instruction(*_: object) -> None:
        faults.append("a narrative has no processing instruction")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler, parser.ProcessingInstructionHandler = doctype, instruction
    try:
        parser.Parse(_ENTITY.sub(_character, div).encode(), True)
    except expat.ExpatError as exc:
        return f"a narrative is well-formed XHTML: {exc}"
    if not faults and not has_content:
        faults.append("a narrative says something (txt-2)")
    return faults[0] if faults else ""


def _character(match: re.Match[str]) -> str:
    """A named character of HTML as the character; XML knows five names only."""
    name = match[1]
    return match[0] if name in _OF_XML or name not in name2codepoint else chr(name2codepoint[name])


def _attribute_faults(tag: str, name: str, value: str) -> list[str]:
    plain = "".join(value.split())
    if name.rpartition(" ")[2] == "lang" and "namespace" in name:
        return []  # xml:lang
    if name not in _ATTRIBUTES:
        return [f"a narrative has no attribute {name.rpartition(' ')[2]}"]
    if name == "href" and not _LINK.match(plain):
        return ["a link of a narrative is http, https, mailto, tel or within it"]
    if name == "src" and (tag != "img" or not _IMAGE.match(plain)):
        return ["a picture of a narrative is http, https, within it or held as data"]
    if name != "src" and name in ("style", "href", "cite") and _ACTS.search(plain):
        return [f"the {name} of a narrative does nothing but format"]
    return []
