"""The section [files] of the options."""

from typing import Annotated

import msgspec

from appliance.config.field import Section, note

NEW = "new"  # the folder below files.path in which new files are announced


class Files(Section, frozen=True):
    """Files out of HTTP bodies, kept under the SHA-256 of their content. Off by default."""

    path: Annotated[
        str,
        note('Folder of the files, which is made if it does not exist; "" keeps none.'),
    ] = ""
    types: Annotated[
        list[str],
        note(
            "MIME types to keep; a * at the beginning or the end is a wildcard. A body is kept if its Content-Type or "
            "the type of its content fits."
        ),
    ] = msgspec.field(default_factory=lambda: ["*"])
    min_bytes: Annotated[
        int,
        note(
            "Minimum size of a file.",
            unit="bytes",
            ge=1,
            le=1 << 40,
            reached="a smaller body is not kept",
            counter='appliance_files_left_out_total{reason="small"}',
        ),
    ] = 1
    max_bytes: Annotated[
        int,
        note(
            "Maximum size of a file. Of an encoded body, bodies.max_decoded_bytes is a limit as well.",
            unit="bytes",
            ge=1,
            le=1 << 40,
            reached="the body is not kept",
            counter='appliance_files_left_out_total{reason="large"}',
        ),
    ] = 16777216
    budget_bytes: Annotated[
        int,
        note(
            "Size of all files, unfinished ones included. Each counts as a multiple of 4096 bytes, so this also limits "
            "their number.",
            unit="bytes",
            ge=1 << 20,
            le=1 << 50,
            reached="the file that was seen longest ago is removed",
            counter='appliance_files_removed_total{reason="budget"}',
        ),
    ] = 1073741824
    keep_s: Annotated[
        int,
        note(
            "Time after which a file that was not seen again is removed. 0 keeps files until the budget is used up.",
            unit="seconds",
            ge=0,
            le=1 << 31,
            reached="the file is removed",
            counter='appliance_files_removed_total{reason="age"}',
        ),
    ] = 0
    max_open: Annotated[
        int,
        note(
            "Bodies of one worker that are being written at the same time.",
            unit="bodies per worker",
            ge=1,
            le=4096,
            reached="a further body is not kept",
            counter='appliance_files_left_out_total{reason="open"}',
        ),
    ] = 1024
    max_parts: Annotated[
        int,
        note(
            "Parts of a form (multipart/form-data), of which those with a file name are files. Lines that begin like "
            "the delimiter of the parts count as well.",
            unit="parts",
            ge=1,
            le=4096,
            reached="further parts are not kept, and count as one file",
            counter='appliance_files_left_out_total{reason="parts"}',
        ),
    ] = 64
    announce: Annotated[
        bool,
        note(
            "Make an empty file with the name of each new file in the folder new/ below path: the queue from which "
            "`appliance files` names them, or runs a scanner."
        ),
    ] = False
