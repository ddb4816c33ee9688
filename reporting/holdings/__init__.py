"""What the node holds, for those who ask: headers read and indexed, keys matched, answers made."""
