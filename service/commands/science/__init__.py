"""Commands on files and figures, without a stack: score, validate, benchmark and the like."""
