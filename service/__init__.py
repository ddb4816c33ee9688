"""Core of Semblance: the science, the records, the pipeline. Knows neither DICOM networking nor FHIR."""

__version__ = "0.1.0"
