"""What FHIR, DICOMweb and the ledger share over HTTP."""
