"""SQL of the dashboard: its users and sessions, and what its pages list."""
