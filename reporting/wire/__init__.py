"""What FHIR, DICOMweb and the ledger have alike on the wire: media types that are accepted, refusals."""
