"""Who may associate, and how often: allow-lists, users, rates."""
