"""Control charts, funnels and risk adjustment over plain arrays; no database, no files."""
