"""The section [record] of the options."""

import os
from typing import Annotated

from appliance.config.field import Section, note

KEPT = "kept"  # the folder below record.path with the frames of chosen events


class Record(Section, frozen=True):
    """Recording: the frames that the workers get, in a ring of capture files. Off by default."""

    path: Annotated[
        str,
        note(
            'Folder of the ring, which is made if it does not exist; "" records nothing. `appliance packets --record` '
            "takes the frames of events from it, `appliance keep` those of chosen events as they happen, and Wireshark "
            "opens its files.",
        ),
    ] = ""
    bytes: Annotated[
        int,
        note(
            "Size of the ring with its indexes. It has 16 files or more, of at most 64 MiB.",
            unit="bytes",
            ge=1 << 20,
            le=1 << 50,
            reached="the oldest file is removed",
            counter="appliance_record_removed_files_total",
        ),
    ] = 10737418240
    seconds: Annotated[
        int,
        note(
            "Age at which a file is removed, even if the ring has room. 0 keeps files until the ring is full.",
            unit="seconds",
            ge=0,
            le=1 << 31,
            reached="the file is removed, some time after its last frame: at most an eighth of this",
            counter="appliance_record_removed_files_total",
        ),
    ] = 0
    only: Annotated[
        str,
        note(
            "Keep the frames of connections with a matching event beyond the time of the ring: an expression as "
            '`appliance events --where` takes it. They go to the folder kept in record.path; "" keeps none.',
        ),
    ] = ""
    kept_bytes: Annotated[
        int,
        note(
            "Size of the folder of kept frames, with their events.",
            unit="bytes",
            ge=1 << 20,
            le=1 << 50,
            reached="the oldest file is removed",
            counter="appliance_keep_removed_files_total",
        ),
    ] = 10737418240

    encrypt_to: Annotated[
        str,
        note(
            "File with an X25519 public key in PEM, to which the files of the ring are encrypted; the sensor cannot "
            'read them. `appliance packets --record DIR --identity FILE` takes the private key. "" records in the '
            "clear. It excludes only.",
        ),
    ] = ""

    @property
    def keeps(self) -> bool:
        """Return whether frames of chosen events are kept."""
        return bool(self.path and self.only)

    @property
    def kept_path(self) -> str:
        """Return the folder of kept frames."""
        return os.path.join(self.path, KEPT)
