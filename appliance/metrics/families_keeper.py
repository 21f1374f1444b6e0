"""The metrics of the keeper; 0 without one."""

from collections.abc import Callable

from appliance.metrics.family import MetricsInput, Rows, counter, gauge, one
from appliance.stats.names import KEEP_LEFT_OUT


def _keep(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    """Return a slot of the keeper; 0 without one."""
    return lambda view: [([], view.pages.keeper.get(slot, 0) * scale)]


def _not_kept(view: MetricsInput) -> Rows:
    keeper = view.pages.keeper
    for reason in KEEP_LEFT_OUT:
        yield [reason], keeper.get(f"left_out.{reason}", 0)
    yield ["link"], view.pages.feed.get("past_keeper", 0)
    yield ["crash"], keeper.get("crash_lost", 0) + keeper.get("lost.0", 0)


KEEPER_FAMILIES = (
    gauge("keep_up", "1 while the keeper runs and is ready; 0 if no frames are kept.", (),
          one(lambda view: view.up("keeper", view.pages.keeper) if view.pages.keeper else 0)),
    counter("keep_unmatched_events", "Events that do not match record.only.", (), _keep("unmatched")),
    counter("keep_events", "Matching events whose frames were kept.", (), _keep("kept")),
    gauge("keep_waiting_events", "Matching events whose frames the keeper will look for.", (), _keep("waiting")),
    counter("keep_left_out_events", "Events without kept frames, by reason: matching ones whose frames the ring had "
            "not (not_in_ring), a failed write (disk), frames beyond the limit of the folder (size); and any events "
            "without room on the link (link), or in a killed keeper (crash).", ("reason",), _not_kept),
    counter("keep_frames", "Frames kept.", (), _keep("kept_frames")),
    counter("keep_files", "Files of kept frames written.", (), _keep("kept_files")),
    counter("keep_removed_files", "Files of kept frames removed because of record.kept_bytes.", (),
            _keep("removed_files")),
    counter("keep_write_errors", "Failed writes of kept frames.", (), _keep("write_errors")),
    counter("keep_look_seconds", "Time spent on copying frames out of the ring.", (), _keep("look_ns", 1e-9)),
    gauge("keep_stored_bytes", "Size of the folder of kept frames.", (), _keep("stored_bytes")),
    gauge("keep_stored_limit_bytes", "Maximum size of that folder; 0 if no frames are kept.", (),
          one(lambda view: view.config.record.kept_bytes if view.config.record.keeps else 0)),
    gauge("keep_stored_files", "Files of kept frames.", (), _keep("stored_files")),
)  # fmt: skip
