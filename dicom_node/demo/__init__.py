"""The demonstration: photographs to send, a small PACS to receive."""
