"""FHIR types we serve, one module each, put together in ``reporting.fhir.search_table``."""
