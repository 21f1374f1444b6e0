"""The section [source] of the options."""

from typing import Annotated

from appliance.config.field import Section, note


class Source(Section, frozen=True):
    """The source of frames: interfaces, or one capture file."""

    interfaces: Annotated[list[str], note("Interfaces to capture on; two for the two halves of a TAP.")] = []
    file: Annotated[str, note('A pcap or pcapng file to read instead of interfaces; "-" is standard input.')] = ""
    filter: Annotated[
        str, note("Capture filter in BPF syntax, run in the kernel. No counter includes the frames it refuses.")
    ] = ""
