"""The notes of an option, beside its type and its default."""

import msgspec


def note(
    text: str,
    *,
    unit: str = "",
    reached: str = "",
    counter: str = "",
    ge: float | None = None,
    le: float | None = None,
    most: int | None = None,
) -> msgspec.Meta:
    """Describe a field: reason, unit, range, effect of the limit, and the metric that shows it.

    most: maximum number of items of a list.
    """
    extra = {"unit": unit, "reached": reached, "counter": counter}
    if most is not None:
        return msgspec.Meta(description=text, max_length=most, extra=extra)
    return msgspec.Meta(description=text, ge=ge, le=le, extra=extra)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One section of the file. The docstring of a section is its heading there."""
