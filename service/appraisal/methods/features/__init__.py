"""Comparators on deep features: LPIPS, multi-scale features, PatchCore."""
