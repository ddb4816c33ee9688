"""What a process tells those who run it: whether it is alive and ready, and its metrics."""
