"""Waiting on conditions in tests."""

from service.waiting import wait_until

__all__ = ["wait_until"]
