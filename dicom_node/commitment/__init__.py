"""Storage commitment, as provider and as user."""
