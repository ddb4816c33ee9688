"""DICOM as bytes: commands, data set structure, file meta information, statuses."""
