"""Detection of protocols by first bytes, and the applications that only count."""
