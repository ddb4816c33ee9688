"""Pictures and maps of results: how they are kept, what their colours mean, how they are drawn.

Knows arrays only: no network, no DICOM, no database.
"""
