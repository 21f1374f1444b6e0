"""Turns the packets of a network interface into a feed of HTTP events, and proves what it lost."""

__version__ = "0.1.0"
