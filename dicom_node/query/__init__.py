"""Query/retrieve, study root, as the SCP (DICOM PS3.4 annex C), of what the node holds."""
