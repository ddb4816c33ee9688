"""One patient name in each character set a hospital may meet (PS3.3 section C.12.1.1.2, PS3.5 Annex H)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Charset:
    """A specific character set and names written in it."""

    declared: str | list[str]
    patient_name: str
    patient_id: str  # LO, decoded by the same rules


CHARSETS = {
    "latin-1": Charset(declared="ISO_IR 100", patient_name="Müller^Jörg", patient_id="Zürich-7"),
    "latin-2": Charset(declared="ISO_IR 101", patient_name="Wałęsa^Łukasz", patient_id="Łódź-7"),
    "cyrillic": Charset(declared="ISO_IR 144", patient_name="Люкceмбypг^Иван", patient_id="Ж-7"),
    "greek": Charset(declared="ISO_IR 126", patient_name="Διονυσιος^Αννα", patient_id="Δ-7"),
    "utf-8": Charset(declared="ISO_IR 192", patient_name="Wang^XiaoDong=王^小東=", patient_id="病-7"),
    "gb18030": Charset(declared="GB18030", patient_name="Wang^XiaoDong=王^小东=", patient_id="病-7"),
    "japanese": Charset(
        declared=["", "ISO 2022 IR 87"],
        patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう",
        patient_id="病-7",
    ),
    "korean": Charset(
        declared=["", "ISO 2022 IR 149"],
        patient_name="Hong^Gildong=洪^吉洞=홍^길동",
        patient_id="서울-7",
    ),
    "none": Charset(declared="", patient_name="Doe^Jane", patient_id="P-7"),
}
