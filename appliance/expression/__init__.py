"""Filter expressions over events."""
