"""Surgical outcomes: a patient over time, in pairs of photographs, changes and charts."""
