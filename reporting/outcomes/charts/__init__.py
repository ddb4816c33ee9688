"""Charts of outcomes: every point with its number of cases and the ids of its evidence."""
