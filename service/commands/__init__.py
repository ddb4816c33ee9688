"""The ``semblance`` command: its commands, and the one place where the parts are put together."""
