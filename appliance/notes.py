"""What an option says about itself, beside its type and its default."""

import msgspec


def note(
    text: str,
    *,
    unit: str = "",
    reached: str = "",
    counter: str = "",
    ge: float | None = None,
    le: float | None = None,
) -> msgspec.Meta:
    """What a field means: reason, unit, range, what happens at the limit, and the metric that shows it."""
    extra = {"unit": unit, "reached": reached, "counter": counter}
    return msgspec.Meta(description=text, ge=ge, le=le, extra=extra)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One section of the file. The docstring of a section is its heading there."""
