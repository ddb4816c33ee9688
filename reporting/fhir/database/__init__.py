"""FHIR resources in PostgreSQL: rows, search conditions, exports, subscriptions."""
