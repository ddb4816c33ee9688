"""The default method: a network that undoes and localises differences, read in two views."""
