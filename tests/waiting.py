"""Waiting on conditions in tests."""

from service.stack.waiting import wait_until

__all__ = ["wait_until"]
