"""DiagnosticReports as PDF: made once for each version, when somebody asks for it."""
