"""FHIR R4 resources and the server that reads them out."""
