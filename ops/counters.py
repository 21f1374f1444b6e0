"""The counters of the data path in code:  python ops/counters.py   writes workers/core/counts.pxd and counts.pyx

The list is appliance/stats/pipeline_counters.py; `Counter` there explains the field of a row. Each slot takes its value
from the field that its row and its value name, and each place in an array follows from the same list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.stats import names
from appliance.stats.pipeline_counters import COUNTERS, EVENT_COUNTERS, Counter

FOLDER = Path(__file__).parents[1] / "workers" / "core"
WIDTH = 128
ROWS = (*COUNTERS, *EVENT_COUNTERS)
ENDS = {  # lengths of the lists of names
    "METHODS_END": names.METHODS,
    "CLASSES_END": names.STATUS_CLASSES,
    "PAIRINGS_END": names.PAIRINGS,
    "BUCKETS_END": names.RESPONSE_BUCKETS_S,
    "TOPICS_END": names.TOPICS,
    "KINDS_END": names.NOT_HTTP,
    "SPOKEN_END": names.SPOKEN,
    "BODIES_END": names.BODY_OUTCOMES,
    "ANOMALIES_END": names.ANOMALIES,
    "DATAGRAMS_END": names.QUIC_OUTCOMES,
    "WEBSOCKET_ANOMALIES_END": names.WEBSOCKET_ANOMALIES,
}
PLACES = {  # places in lists of names: {comment: members}
    "a connection's protocol, by stats.SPOKEN": [
        name.upper() if name == "silent" else f"SPEAKS_{name.upper()}" for name in names.SPOKEN
    ],
    "of an unknown protocol, in stats.NOT_HTTP": [name.upper() for name in names.NOT_HTTP if name == "other"],
    "outcomes of a datagram that may open a QUIC connection, by stats.QUIC_OUTCOMES": [
        name.upper() for name in names.QUIC_OUTCOMES
    ],
}
WRITTEN = "Written by ops/counters.py from appliance/stats/pipeline_counters.py."
CRASH = "crash"  # the value for what a killed worker had: its successor accounts for it, so a pipeline counts none


class Slot(NamedTuple):
    """A slot of the page, and the expression of its value."""

    name: str
    value: str


class Field(NamedTuple):
    """A field of the class. length: of an array, 0 for a number."""

    name: str
    length: int
    comment: str


def spread(rows: Sequence[Counter]) -> tuple[list[Slot], list[Field], list[tuple[str, int]]]:
    """Return the slots, the fields, and the named places in the array `http2`, each in the order of the rows."""
    slots: list[Slot] = []
    fields: dict[str, Field] = {}
    places: list[tuple[str, int]] = []
    length = 0
    for row in rows:
        if not row.field:
            continue
        comment = row.help if 0 < len(row.help) <= WIDTH - 50 else f"slot {row.slot}"
        array = re.fullmatch(r"(\w+)\[(.*)]", row.field)
        first = int(array[2][:-1]) if array and array[2].endswith(":") else 0
        named = array and not first and array[2]
        for place, name in enumerate(row.slots):
            value = str(row.values[place]) if row.values else ""
            if value == CRASH:
                slots.append(Slot(name, "0"))
            elif array and named:
                if not place or "{}" in array[2]:
                    places.append((array[2].format(value.upper()), length))
                slots.append(Slot(name, f"self.{array[1]}[{length}]"))
                length += 1
                fields[array[1]] = Field(array[1], length, "by the places above")
            elif array:
                slots.append(Slot(name, f"self.{array[1]}[{first + place}]"))
                fields[array[1]] = Field(array[1], first + place + 1, comment)
            else:
                field = row.field.format(value)
                if field in fields:
                    raise ValueError(f"{name}: another slot has the field {field}, too")
                slots.append(Slot(name, f"self.{field}"))
                fields[field] = Field(field, 0, comment)
    return slots, list(fields.values()), [*places, ("HTTP2_COUNTS", length)]


def enum(comment: str, members: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Yield the lines of an enum."""
    yield "cdef enum:".ljust(40) + f"# {comment}"
    yield from (f"    {member} = {value}" for member, value in members)
    yield ""


def declaration(rows: Sequence[Counter] = ROWS) -> str:
    """Return the text of counts.pxd."""
    _, fields, places = spread(rows)
    lines = [
        "# cython: language_level=3",
        f'"""The fields of the counters, and their places. {WRITTEN}"""',
        "from libc.stdint cimport uint64_t",
        "",
        *enum("lengths of lists in appliance/stats/names.py", [(name, len(of)) for name, of in ENDS.items()]),
    ]
    for comment, members in PLACES.items():
        lines += enum(comment, [(member, place) for place, member in enumerate(members)])
    lines += [*enum("places in PipelineCounts.http2", places), "", "cdef class PipelineCounts:"]
    for field in fields:
        length = f"[{field.length}]" if field.length else ""
        lines.append(f"    cdef uint64_t{length} {field.name}".ljust(48) + f"# {field.comment}")
    return "\n".join([*lines, ""])


def definition(rows: Sequence[Counter] = ROWS) -> str:
    """Return the text of counts.pyx."""
    slots, _, _ = spread(rows)
    lines = [
        "# cython: language_level=3",
        f'"""The counters by their slots. {WRITTEN}"""',
        "",
        "",
        "cdef class PipelineCounts:",
        '    """The counters of a data path that need no calculation."""',
        "",
        "    def counts(self):",
        '        """Return {slot of the worker\'s stats page: value}."""',
        "        return {",
        *(f'            "{slot.name}": {slot.value},' for slot in slots),
        "        }",
    ]
    return "\n".join([*lines, ""])


FILES = {FOLDER / "counts.pxd": declaration, FOLDER / "counts.pyx": definition}

if __name__ == "__main__":
    for file, text in FILES.items():
        file.write_text(text())
        print(file)
