"""One builder per FHIR resource: pure functions from what was appraised to JSON."""
