"""The metrics of the recorder; 0 without one."""

from collections.abc import Callable

from appliance.metrics.family import MetricsInput, Rows, counter, gauge, one
from appliance.stats.names import RECORD_LEFT_OUT


def _record(slot: str, scale: float = 1) -> Callable[[MetricsInput], Rows]:
    """Return a slot of the recorder; 0 without one."""
    return lambda view: [([], view.pages.recorder.get(slot, 0) * scale)]


def _not_recorded(view: MetricsInput) -> Rows:
    recorder, captures = view.pages.recorder, view.pages.captures
    for reason in RECORD_LEFT_OUT:
        yield [reason], recorder.get(f"left_out.{reason}", 0)
    yield ["link"], sum(page.get("past_recorder", 0) for page in captures)
    yield ["crash"], recorder.get("crash_lost", 0) + sum(recorder.get(f"lost.{c}", 0) for c in range(len(captures)))


RECORDER_FAMILIES = (
    gauge("record_up", "1 while the recorder runs and is ready; 0 if nothing is recorded.", (),
          one(lambda view: view.up("recorder", view.pages.recorder) if view.pages.recorder else 0)),
    counter("record_frames", "Frames recorded.", (), _record("recorded")),
    counter("record_bytes", "Captured bytes of the recorded frames.", (), _record("recorded_bytes")),
    counter("record_left_out_frames", "Frames that workers got and the ring has not, by reason: connections left "
            "out because the recorder was behind, a failed write (disk), no room for the batch (link), a killed "
            "recorder (crash).", ("reason",), _not_recorded),
    gauge("record_left_out_ratio", "Share of all connections that the recorder leaves out now.", (),
          _record("left_out_share", 1 / 256)),
    counter("record_write_errors", "Failed writes to the ring.", (), _record("write_errors")),
    gauge("record_ring_bytes", "Size of the ring.", (), _record("ring_bytes")),
    gauge("record_ring_limit_bytes", "Maximum size of the ring; 0 if nothing is recorded.", (),
          one(lambda view: view.config.record.bytes if view.config.record.path else 0)),
    gauge("record_ring_files", "Files of the ring, without their indexes.", (), _record("ring_files")),
    gauge("record_ring_oldest_timestamp_seconds", "Time of the last frame in the oldest file; 0: no frames.", (),
          _record("ring_oldest_ns", 1e-9)),
    counter("record_removed_files", "Files removed because of the ring's size or their age.", (),
            _record("removed_files")),
    counter("record_torn_bytes", "Bytes of incomplete blocks of killed recorders, removed from the ring.", (),
            _record("torn_bytes")),
)  # fmt: skip
