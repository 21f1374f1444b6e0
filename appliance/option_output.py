"""The section [output] of the options."""

from typing import Annotated, Literal

from appliance.notes import Section, note


class Output(Section, frozen=True):
    """Events in files: JSON Lines, or Parquet."""

    path: Annotated[str, note('File that receives every event, one per line; "-" is standard output, "" is none.')] = ""
    format: Annotated[
        Literal["auto", "jsonl", "parquet"],
        note(
            'How events are written; "auto" is Parquet for a path that ends with .parquet. A Parquet file can be read '
            "only when it is finished: live, it needs rotate_s.",
            counter="appliance_output_open_events",
        ),
    ] = "auto"
    rotate_bytes: Annotated[
        int,
        note(
            "Size of a file; 0 is no limit.",
            unit="bytes",
            ge=0,
            le=1 << 50,
            reached="the file is closed under a name with the time in it, and a new one begins",
            counter="appliance_output_rotations_total",
        ),
    ] = 0
    rotate_s: Annotated[
        float,
        note(
            "Age of a file; files end at multiples of it: with 3600 at the full hour, UTC. 0 is no limit.",
            unit="seconds",
            ge=0,
            le=31622400,
            reached="the file is closed, if there is anything in it",
            counter="appliance_output_rotations_total",
        ),
    ] = 0.0
    compress: Annotated[
        Literal["none", "zstd"],
        note("What is done with closed files.", counter="appliance_output_compressed_files_total"),
    ] = "none"
    keep_files: Annotated[
        int,
        note(
            "Closed files that are kept; 0 is all of them.",
            unit="files",
            ge=0,
            le=1 << 30,
            reached="the oldest is removed",
            counter="appliance_output_removed_files_total",
        ),
    ] = 0
    keep_bytes: Annotated[
        int,
        note(
            "Space that closed files may take; 0 is all there is.",
            unit="bytes",
            ge=0,
            le=1 << 60,
            reached="the oldest is removed",
            counter="appliance_output_removed_files_total",
        ),
    ] = 0

    @property
    def parquet(self) -> bool:
        """Whether files are Parquet."""
        return self.format == "parquet" or (self.format == "auto" and self.path.endswith(".parquet"))

    @property
    def opened(self) -> str:
        """The file that is opened: a Parquet file gets its own name when it is whole."""
        return f"{self.path}.part" if self.parquet else self.path

    @property
    def rotates(self) -> bool:
        """Whether files are closed before the end."""
        return bool(self.rotate_bytes or self.rotate_s)
