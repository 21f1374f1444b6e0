"""The metrics of the run: the ledger, its configuration and its key log."""

from appliance.metrics.family import MetricsInput, Rows, children, counter, gauge, one, verdicts
from appliance.stats import ledger
from appliance.stats.links import ReceivedLink
from appliance.stats.names import KEYLOG_LINES, LINK_DROPS, QUIC_OUTCOMES, RELOADS, SEGMENT_VERDICTS


def _build_info(view: MetricsInput) -> Rows:
    yield [view.version, view.python], 1


def _outcomes(view: MetricsInput) -> Rows:
    """Count each frame that a capture read or reassembled under exactly one outcome, unless it is in flight."""
    captures = view.pages.captures
    for verdict in dict.fromkeys(verdict for page in captures for verdict, _ in verdicts(page)):
        yield ["capture", verdict, ""], sum(page[f"rejected.{verdict}"] for page in captures)
    yield ["capture", "shed", ""], sum(page["shed_frames"] for page in captures)
    for w, worker in enumerate(view.pages.workers):
        for reason in LINK_DROPS:
            yield ["link", reason, str(w)], sum(page[f"{reason}.{w}"] for page in captures)
        yield ["link", "lost", str(w)], sum(ReceivedLink(worker, c).lost for c in range(len(captures)))
        for verdict in SEGMENT_VERDICTS:
            yield ["worker", verdict, str(w)], worker[f"rejected.{verdict}"]
        quic = sum(worker[f"quic_datagrams.{outcome}"] for outcome in QUIC_OUTCOMES)
        yield ["worker", "quic", str(w)], quic
        yield ["worker", "udp", str(w)], worker["udp_datagrams"]
        yield ["worker", "quarantined", str(w)], worker["quarantined"]
        yield ["worker", "crash_lost", str(w)], worker["crash_lost"]
        yield ["worker", "segment", str(w)], worker["segments"]


def _unaccounted(view: MetricsInput) -> Rows:
    return [([name], identity["difference"]) for name, identity in ledger.identities(view.pages).items()]


def _generation(view: MetricsInput) -> float:
    """Return the generation in force everywhere; children apply a new one within a turn of their loops."""
    started = (page for page in children(view) if page["starts"])
    return min(page["generation"] for page in (view.pages.supervisor, *started))


def _reloads(view: MetricsInput) -> Rows:
    return [([result], view.pages.supervisor[f"reloads.{result}"]) for result in RELOADS]


def _reloaded_well(view: MetricsInput) -> float:
    return float(not any(page["config_error"] for page in (view.pages.supervisor, *children(view))))


def _keylog_lines(view: MetricsInput) -> Rows:
    return [([kind], view.pages.supervisor[f"keylog_lines.{kind}"]) for kind in KEYLOG_LINES]


RUN_FAMILIES = (
    gauge("build_info", "Version of the appliance and of Python; always 1.", ("version", "python"), _build_info),
    gauge("compiled", "Always 1: the data path is compiled code.", (), one(lambda _: 1)),
    gauge("frames_unaccounted", "Difference of each identity of the ledger: 0 at rest, else the amount in "
          "transit.",
          ("identity",), _unaccounted),
    gauge("frames_in_flight", "Frames captured but not yet counted under an outcome.",
          (), one(lambda view: ledger.in_flight(ledger.identities(view.pages)))),
    counter("frames_outcome", "Frames read or reassembled, by their one outcome; worker is empty if no "
            "worker was offered the frame.",
            ("stage", "outcome", "worker"), _outcomes),
    gauge("config_generation", "Generation of the configuration that every process applies; a start has 1.",
          (), one(_generation)),
    counter("tls_keylog_lines", "Lines of key logs, by kind.", ("kind",), _keylog_lines),
    counter("tls_keylog_bytes", "Bytes read of tls.keylog.",
            (), one(lambda view: view.pages.supervisor["keylog_bytes"])),
    counter("tls_keylog_restarts", "Times that tls.keylog was replaced by another file, or began anew.",
            (), one(lambda view: view.pages.supervisor["keylog_restarts"])),
    gauge("tls_keylog_kept", "Secrets that the supervisor keeps for its workers.",
          (), one(lambda view: view.pages.supervisor["keys_kept"])),
    counter("config_reloads", "Requested reloads of the configuration, by result.", ("result",), _reloads),
    gauge("config_last_reload_successful", "0 if the last reload was refused, or a process could not apply it.",
          (), one(_reloaded_well)),
    gauge("config_last_reload_timestamp_seconds", "Time of the last requested reload; 0 if there was none.",
          (), one(lambda view: view.pages.supervisor["reloaded_ns"] * 1e-9)),
    gauge("blind_seconds", "Time without capture between the run before in the same run directory and this one; 0 if "
          "that is unknown.",
          (), one(lambda view: view.pages.supervisor["blind_ns"] * 1e-9)),
)  # fmt: skip
