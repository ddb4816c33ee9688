"""Photographs as pixels: decoded from DICOM and files, in sRGB."""
