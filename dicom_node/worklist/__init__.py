"""Photographs as JPEG files with a worklist that says whose they are: read, checked, made DICOM objects."""
