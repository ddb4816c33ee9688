"""DICOMweb (DICOM PS3.18): QIDO-RS, WADO-RS and STOW-RS of what the node holds."""
