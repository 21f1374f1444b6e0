"""Numbers for people: a count with a decimal prefix, a duration."""

from __future__ import annotations


def size(count: float, unit: str = "B") -> str:
    """Format a count with three digits and a decimal prefix: 1234567 as "1.23 MB"."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(count) < 999.5 or prefix == "T":
            break
        count /= 1000
    digits = 0 if prefix == "" else max(0, 2 - (count >= 9.995) - (count >= 99.95))
    return f"{count:.{digits}f} {prefix}{unit}"


def duration(seconds: float) -> str:
    """Format a duration: 3725 as "1:02:05", 12.34 as "12.3 s"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
