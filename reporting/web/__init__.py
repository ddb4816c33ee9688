"""The dashboard: pages for clinicians, quality teams, auditors, administrators. Nothing is computed here."""
