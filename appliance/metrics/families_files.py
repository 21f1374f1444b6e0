"""The metrics of the files process; 0 without one."""

from collections.abc import Callable

from appliance.metrics.family import MetricsInput, Rows, counter, gauge, one
from appliance.stats.names import FILES_LEFT_OUT, FILES_REFUSED, FILES_REMOVED


def _file(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    """Return a slot of the files process; 0 without one."""
    return lambda view: [([], view.pages.files.get(slot, 0) * scale)]


def _files_left_out(view: MetricsInput) -> Rows:
    files, workers = view.pages.files, view.pages.workers
    crashed = sum(page.get("files_left_out.crash", 0) for page in workers) + files.get("crash_lost", 0)
    for why in FILES_LEFT_OUT:
        if why != "crash":
            yield [why], sum(page.get(f"files_left_out.{why}", 0) for page in workers)
    for why in FILES_REFUSED:
        yield [why], files.get(f"left_out.{why}", 0)
    yield ["crash"], crashed + sum(files.get(f"lost.{w}", 0) for w in range(len(workers)))


FILES_FAMILIES = (
    gauge("files_up", "1 while the files process runs and is ready; 0 if no files are kept.", (),
          one(lambda view: view.up("files", view.pages.files) if view.pages.files else 0)),
    counter("files_offered", "Bodies of a wanted type.", (),
            one(lambda view: sum(page.get("files_offered", 0) for page in view.pages.workers))),
    gauge("files_open", "Bodies of a wanted type without an outcome yet.", (),
          one(lambda view: sum(page.get("files_open", 0) for page in view.pages.workers))),
    counter("files_kept", "Files kept that were not there yet.", (), _file("kept")),
    counter("files_kept_bytes", "Bytes of the files kept.", (), _file("kept_bytes")),
    counter("files_duplicates", "Bodies whose content was kept already.", (), _file("duplicates")),
    counter("files_left_out", "Bodies of a wanted type that were not kept, by reason: bytes not captured (missing), "
            "not decoded (undecoded), a limit of [bodies] (limit), a part of a content (part), too many parts of a "
            "form (parts), their size (small, large), too many at once (open), no room on the link (link), no room in "
            "the budget (budget), a failed write (disk), a wrong digest (mismatch), a killed process (crash).",
            ("reason",), _files_left_out),
    counter("files_removed", "Files removed, by reason.", ("reason",),
            lambda view: [([why], view.pages.files.get(f"removed.{why}", 0)) for why in FILES_REMOVED]),
    counter("files_write_errors", "Failed writes of files.", (), _file("write_errors")),
    gauge("files_stored", "Files in the folder.", (), _file("stored_files")),
    gauge("files_stored_bytes", "Size of the files, in multiples of 4096 bytes, with unfinished ones.", (),
          _file("stored_bytes")),
    gauge("files_limit_bytes", "Maximum size of the files; 0 if no files are kept.", (),
          one(lambda view: view.config.files.budget_bytes if view.config.files.path else 0)),
    gauge("files_oldest_timestamp_seconds", "Last sighting of the file not seen for the longest; 0: no files.", (),
          _file("oldest_ns", 1e-9)),
)  # fmt: skip
