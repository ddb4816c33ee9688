"""What the FHIR server says of itself: CapabilityStatement, OpenAPI."""
