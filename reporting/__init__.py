"""Results as DICOM and FHIR."""
