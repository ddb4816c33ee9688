"""The DICOM node: receive, never lose, send back."""
