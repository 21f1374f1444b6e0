"""Thin wrappers of processor, C library, kernel and file systems. It imports nothing of ours."""
