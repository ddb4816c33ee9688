"""Subscriptions: who is told of results, and the telling."""
