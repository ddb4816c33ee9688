"""``semblance doctor``: whether this machine and its settings are fit to run Semblance."""
