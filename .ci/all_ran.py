"""Fail unless a JUnit report shows tests that ran, and none skipped: python all_ran.py REPORT.

Silent when all is well, so that pytest's own closing line stays the last one.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def faults(report: str) -> list[str]:
    """What is wrong with a run, one line each; nothing when every test ran.

    Args:
        report: Text of a JUnit XML file as pytest writes it. It is our own, hence trusted.
    """
    cases = list(ET.fromstring(report).iter("testcase"))  # noqa: S314
    if not cases:
        return ["no test ran"]
    return [
        f"skipped: {case.get('classname')}::{case.get('name')}: {skipped.get('message')}"
        for case in cases
        for skipped in case.iter("skipped")
    ]


def main(path: str) -> int:
    """Print the faults of the report at a path; exit status."""
    found = faults(Path(path).read_text(encoding="utf-8"))
    sys.stderr.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
