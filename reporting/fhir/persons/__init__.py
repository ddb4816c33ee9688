"""Whose a photograph is: one person, however many Patients and numbers there are."""
