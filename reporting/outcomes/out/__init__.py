"""Outcomes out of the house: CSV, NDJSON, SVG, PDF, and FHIR MeasureReports."""
