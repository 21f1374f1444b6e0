"""The section [output] of the options."""

from typing import Annotated, Literal

from appliance.config.field import Section, note


class Output(Section, frozen=True):
    """Events in files: JSON Lines, or Parquet."""

    path: Annotated[
        str,
        note(
            'File that receives every event, one per line; "-" is standard output, "" is none. A live capture '
            "appends to it; reading a capture file replaces it, once the input has proven to be a capture. A "
            "moved or removed file is reopened, on SIGHUP at once.",
            counter="appliance_output_opened_total",
        ),
    ] = ""
    format: Annotated[
        Literal["auto", "jsonl", "parquet"],
        note(
            'Format of events; "auto" is Parquet for a path that ends with .parquet. A Parquet file is readable '
            "only when it is finished, so a live capture needs rotate_s.",
            counter="appliance_output_open_events",
        ),
    ] = "auto"
    rotate_bytes: Annotated[
        int,
        note(
            "Maximum size of a file; 0 is no limit.",
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
            "Maximum age of a file; files end at multiples of it: with 3600 at the full hour, UTC. 0 is no limit.",
            unit="seconds",
            ge=0,
            le=31622400,
            reached="the file is closed, unless it is empty",
            counter="appliance_output_rotations_total",
        ),
    ] = 0.0
    compress: Annotated[
        Literal["none", "zstd"],
        note("Compression of closed files.", counter="appliance_output_compressed_files_total"),
    ] = "none"
    keep_files: Annotated[
        int,
        note(
            "Maximum number of closed files; 0 is no limit.",
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
            "Maximum size of all closed files; 0 is no limit.",
            unit="bytes",
            ge=0,
            le=1 << 60,
            reached="the oldest is removed",
            counter="appliance_output_removed_files_total",
        ),
    ] = 0

    @property
    def parquet(self) -> bool:
        """Return whether files are Parquet."""
        return self.format == "parquet" or (self.format == "auto" and self.path.endswith(".parquet"))

    @property
    def opened(self) -> str:
        """Return the path to open: a Parquet file is renamed when it is complete."""
        return f"{self.path}.part" if self.parquet else self.path

    @property
    def rotates(self) -> bool:
        """Return whether files are closed before the end."""
        return bool(self.rotate_bytes or self.rotate_s)
