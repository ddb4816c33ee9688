"""Gates a photograph must pass, and the measures in physical units they stand on."""
