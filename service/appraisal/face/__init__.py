"""The face in a photograph: found, posed, aligned, cut into regions."""
