"""The frames behind an event: its connection found in captures, and written with comments."""
