"""Audit messages of DICOM PS3.15 annex A.5: made from the ledger, kept, chained, sent to a syslog server."""
