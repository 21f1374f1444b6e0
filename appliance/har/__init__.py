"""HTTP Archive (HAR 1.2) out of events."""
