"""The commands that run the product: its processes, the stack on one machine, the demonstration."""
