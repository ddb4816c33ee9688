"""Paper 002: discrepancy of student and teacher, mask, inpainting, twice."""
