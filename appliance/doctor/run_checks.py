"""Checks of a running appliance, from its pages at two moments; see findings.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from appliance.config.address import OFF
from appliance.config.schema import Config
from appliance.doctor.findings import CheckResult, Checks, fail, ok, warn
from appliance.report import losses as loss_report
from appliance.report import no_events as reasons
from appliance.report import status_lines as summary
from appliance.stats import ledger
from appliance.stats.names import DRAINING, FENCES_OF, READY
from appliance.stats.snapshot import Counts, Snapshots, keepers, under
from appliance.text.units import duration, size

STALE_S = 10.0
LATE_S = 1.0
MUCH = 0.01
FAR = 0.1
UNEVEN = 2.0  # times the mean of all workers
BUSY_FRAMES_S = 1000  # with fewer frames a worker's share is chance
IN_FLIGHT_S = 2.0  # of traffic: rings, links and half a batch
FEW = 1000
NO_EVENT = {  # by Reason.cause: consequence and fix; the check "traffic" covers the filter
    "frames": (
        "Only TCP connections and QUIC handshakes make events, and only if their headers were captured whole.",
        "appliance packets -i IFACE -n 5 --layers",
    ),
    "data": (
        "Connections without data carry no request: scans, idle connections, or the wrong side of a mirror.",
        "mirror the link that carries requests and responses, in both directions",
    ),
    "protocol": (
        "Unencrypted HTTP makes events, and so do handshakes of TLS and QUIC that were captured from their start.",
        "mirror a link behind the TLS terminator, where HTTP is unencrypted",
    ),
    "dataset": (
        "The run was not asked for events of these connections.",
        'add "http" to events.datasets, or leave --dataset out',
    ),
}


class RunFacts(NamedTuple):
    """A run at two moments, some seconds apart."""

    config: Config
    before: Snapshots
    now: Snapshots
    seconds: float
    now_ns: int  # time.monotonic_ns() of the second

    def gain(self, count: Callable[[Snapshots], int]) -> int:
        """Return the growth of a sum between the two moments."""
        return count(self.now) - count(self.before)

    @property
    def processes(self) -> list[tuple[str, Counts]]:
        now = self.now
        captures = [(f"capture {c}", page) for c, page in enumerate(now.captures)]
        workers = [(f"worker {w}", page) for w, page in enumerate(now.workers)]
        return [*captures, *workers, ("feed", now.feed), *keepers(now)]


RUN = Checks[RunFacts]()


def of_workers(name: str) -> Callable[[Snapshots], int]:
    return lambda pages: sum(page[name] for page in pages.workers)


@RUN.check("processes")
def processes(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that every process exists and works."""
    complaints = []
    for name, page in facts.processes:
        age = max(0, facts.now_ns - page["progress_ns"]) / 1e9
        if page["state"] not in (READY, DRAINING):
            complaints.append(f"{name} does not run")
        elif page["error"]:
            complaints.append(f"{name} reports an error")
        elif age > STALE_S:
            complaints.append(f"{name} made no progress for {duration(age)}")
    restarts = facts.now.restarts()
    if complaints:
        yield fail(
            "; ".join(complaints), "The tasks of that process are not done now.", "journalctl -u 'appliance*' -n 50"
        )
    elif restarts:
        why = (
            "A process died of a fault of ours or of lack of memory. Its frames and events in flight are lost, "
            "and counted."
        )
        yield warn(f"all running; restarts: {restarts}", why, "journalctl -u 'appliance*' -p warning")
    else:
        yield ok(f"{len(facts.processes)} running, no restarts")


@RUN.check("traffic")
def traffic(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that frames arrive on every interface."""
    pairs = enumerate(zip(facts.before.captures, facts.now.captures, strict=True))
    heard = {facts.config.interface_of(index) for index, (before, now) in pairs if now["frames"] != before["frames"]}
    silent = [name for name in facts.config.source.interfaces if name not in heard]
    if silent and not facts.config.lossless:
        why = "A disabled mirror, a cable, or a filter that accepts nothing has this effect."
        seen = f"no frame on {', '.join(silent)} for {facts.seconds:.0f} s"
        yield warn(seen, why, f"appliance packets -i {silent[0]} -n 5")
    else:
        yield ok(summary.rates(facts.now, facts.before, facts.seconds))


@RUN.check("losses")
def losses(facts: RunFacts) -> Iterator[CheckResult]:
    """Report each place that lost frames or events, with the option that helps."""
    known = {loss.kind: loss.total for loss in loss_report.losses(facts.before, facts.config)}
    found = loss_report.losses(facts.now, facts.config)
    for loss in found:
        if fresh := loss.total - known.get(loss.kind, 0):
            yield fail(f"now: {fresh:,} {loss.what} within {facts.seconds:.0f} s", "The loss is going on.", loss.remedy)
        else:
            yield warn(
                f"earlier: {loss.total:,} {loss.what}", "Not now; the counter covers the whole run.", loss.remedy
            )
    if not found:
        yield ok("nothing was lost since the start")


@RUN.check("ledger")
def accounts(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that the open frames of the ledger are few enough to be in flight."""
    frames = facts.gain(Snapshots.frames) / max(facts.seconds, 1e-9)
    open_now, open_before = (ledger.in_flight(ledger.identities(pages)) for pages in (facts.now, facts.before))
    lasting = min(open_now, open_before)
    seen = f"{open_now:,} frames in flight"
    if lasting > FEW + frames * IN_FLIGHT_S:
        why = "More than rings and links should hold for this long: a process hangs, or frames are in no counter."
        yield warn(f"{seen}, {lasting:,} of them for {facts.seconds:.0f} s", why, "appliance top")
    else:
        yield ok(seen)


@RUN.check("protocols")
def protocols(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that some connections carry HTTP/1."""
    reason = reasons.no_event(facts.now, facts.config)
    if reason is not None and reason.cause in NO_EVENT:
        yield warn(reason.text, *NO_EVENT[reason.cause])
    elif reason is None and (seen := reasons.mostly(facts.now, facts.before)):
        yield ok(seen)


@RUN.check("decryption")
def decryption(facts: RunFacts) -> Iterator[CheckResult]:
    """Report whether TLS is decrypted, and the share of connections that the secrets open."""
    page, keylog = facts.now.supervisor, facts.config.tls.keylog
    secrets, junk = page["keylog_lines.secret"], page["keylog_lines.junk"]
    if not keylog and not secrets:
        return
    opened, closed = (of_workers(f"tls_decrypted.{name}")(facts.now) for name in ("key", "no_key"))
    text = f"decryption is on: {secrets:,} secrets{f' from {keylog}' if keylog else ''}"
    text += f"; {opened:,} TLS connections were opened, {closed:,} had no secret"
    if not secrets:
        why = (
            "A connection without its secret stays closed. The endpoint may not write its key log, or to another file."
        )
        yield warn(text, why, f"tail -n 1 {keylog}")
    elif junk > secrets:
        yield warn(f"{text}; {junk:,} lines are junk", "A file that is no key log has such lines.", f"head {keylog}")
    else:
        yield ok(text)


@RUN.check("both sides")
def both_sides(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that connections have two directions."""
    ended = sum(under(page, "flows_ended") - page["flows_ended.half_open"] for page in facts.now.workers)
    one_sided = of_workers("flows_one_sided")(facts.now)
    if not ended:
        return
    seen = f"{one_sided:,} of {ended:,} connections that ended had one direction only"
    if one_sided > ended * FAR:
        why = "Requests without responses, or responses alone: a mirror of one direction, or half of a TAP."
        yield warn(seen, why, "mirror both directions, or name both halves of the TAP with -i")
    else:
        yield ok(seen)


@RUN.check("before us")
def upstream(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that every acknowledged byte was captured."""
    unseen, delivered = (of_workers(name)(facts.now) for name in ("acked_unseen_bytes", "payload.delivered"))
    total = unseen + delivered
    if not total:
        return
    share = unseen / total
    seen = f"{100 * share:.2g} % of the acknowledged bytes were never captured"
    if loss_report.dropped_frames(facts.now) or facts.now.total("shed_frames") or facts.now.total("kernel_shed_ns"):
        yield ok(f"{seen}; as this sensor dropped or shed frames, this does not show loss before it")
        return
    why = "Lost before this host's kernel: in the mirror port, the broker or the card. No counter here includes them."
    fix = f"ethtool -S {next(iter(facts.config.source.interfaces), 'IFACE')} | grep -iE 'drop|miss|err'"
    if share > FAR:
        yield fail(seen, why, fix)
    elif share > MUCH:
        yield warn(seen, why, fix)
    else:
        yield ok(seen)


@RUN.check("copies")
def copies(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that frames are not duplicated."""
    copied, segments = (of_workers(name)(facts.now) for name in ("duplicate_frames", "segments"))
    if not segments:
        return
    seen = f"{copied:,} of {segments:,} segments are duplicates"
    if copied > segments * MUCH:
        why = (
            "Duplicates cost as much as the originals. A mirror of both ports of a path, or of a VLAN, "
            "duplicates every frame."
        )
        yield warn(seen, why, "mirror each port in one direction (rx), or one port of the path")
    else:
        yield ok(seen)


@RUN.check("checksums")
def checksums(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that few segments are damaged."""
    wrong, segments = (of_workers(name)(facts.now) for name in ("checksums.bad", "segments"))
    if segments and wrong > segments * MUCH:
        why = (
            "Frames are damaged on their way here, or a device rewrites them without new checksums; receivers "
            "drop them."
        )
        yield warn(f"{wrong:,} of {segments:,} segments have a wrong checksum", why, "--set tcp.checksums=drop")


@RUN.check("balance")
def balance(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that workers have equal shares of the frames."""
    pairs = zip(facts.before.workers, facts.now.workers, strict=True)
    shares = [now["segments"] - before["segments"] for before, now in pairs]
    mean = sum(shares) / max(1, len(shares))
    if len(shares) < 2 or mean < BUSY_FRAMES_S * facts.seconds:
        return
    worst = max(shares) / mean
    seen = f"the busiest of {len(shares)} workers has {worst:.1f} times the mean"
    if worst > UNEVEN:
        why = (
            "A few connections carry most of the traffic. One connection belongs to one worker: more workers do "
            "not help."
        )
        yield warn(seen, why, "exclude it with --filter, as in 'not host 192.0.2.1'")
    else:
        yield ok(seen)


@RUN.check("lag")
def lag(facts: RunFacts) -> Iterator[CheckResult]:
    """Check that no worker lags."""
    if not facts.gain(Snapshots.frames):
        return
    worst = max(page["lag_ns"] for page in facts.now.workers) / 1e9
    seen = f"the last batch was {duration(worst)} old when its worker took it"
    if worst > LATE_S:
        why = "The workers are overloaded, and links fill up."
        yield warn(seen, why, f"--workers {len(facts.now.workers) + 1}")
    else:
        yield ok(seen)


@RUN.check("limits")
def limits(facts: RunFacts) -> Iterator[CheckResult]:
    """Report the limits that were reached."""
    evicted, attempts = (of_workers(f"flows_ended.{end}")(facts.now) for end in ("evicted", "half_open"))
    held, tcp = of_workers("payload.evicted")(facts.now), facts.config.tcp
    reached = [
        (
            evicted,
            "connections evicted for lack of room",
            f"--set tcp.max_connections={2 * tcp.max_connections}",
        ),
        (
            attempts,
            "half-open connections dropped, by a flood of SYNs or very many clients",
            f"--set tcp.max_half_open={2 * tcp.max_half_open}",
        ),
        (
            held,
            "bytes behind gaps dropped",
            f"--set tcp.max_total_pending_bytes={2 * tcp.max_total_pending_bytes}",
        ),
    ]
    for count, what, fix in reached:
        if count:
            yield warn(f"{count:,} {what}", "A limit of the configuration was reached; it protects the memory.", fix)


@RUN.check("feed")
def feed(facts: RunFacts) -> Iterator[CheckResult]:
    """Check subscribers, refused peers and the output."""
    page = facts.now.feed
    refused = under(page, "refused")
    seen = f"{page['subscribers']:,} subscribers, {facts.now.events():,} events published"
    if page["write_errors"] or page["archive_errors"] or page["rotation_errors"]:
        why = "The disk is full, or the folder does not belong to us any more."
        why += "" if facts.config.feed.bind == OFF else "Events are still on the feed."
        yield warn(f"{page['write_errors']:,} failed writes to the output", why, f"df -h {facts.config.output.path}")
    if refused:
        why = "Their keys are not in the folder of clients, or they have no key, or speak another protocol."
        yield warn(f"{seen}; {refused:,} peers were refused", why, "ss -tnp | grep 5556")
    else:
        yield ok(seen)


@RUN.check("record")
def record(facts: RunFacts) -> Iterator[CheckResult]:
    """Check the recorder and its ring, if there is one."""
    page, options = facts.now.recorder, facts.config.record
    if not page:
        return
    left_out = under(page, "left_out") + sum(capture["past_recorder"] for capture in facts.now.captures)
    ring = f"{page['ring_files']:,} files, {size(page['ring_bytes'])} of {size(options.bytes)}"
    if page["left_out_share"] or page["write_errors"]:
        why = "The disk is full, or slower than the traffic. Events are not affected."
        yield warn(f"{left_out:,} frames are not in the ring ({ring})", why, f"df -h {options.path}; iostat -x 1 5")
    else:
        yield ok(f"{page['recorded']:,} frames recorded, {left_out:,} left out; {ring}")


@RUN.check("keep")
def keep(facts: RunFacts) -> Iterator[CheckResult]:
    """Check the keeper and its folder, if there is one."""
    page, options = facts.now.keeper, facts.config.record
    if not page:
        return
    left_out = under(page, "left_out") + facts.now.feed["past_keeper"]
    stored = f"{page['stored_files']:,} files, {size(page['stored_bytes'])} of {size(options.kept_bytes)}"
    counts = f"frames of {page['kept']:,} events kept, {left_out:,} events left out; {stored}"
    if page["left_out.disk"]:
        yield warn(counts, "The disk is full, or fails. Events are not affected.", f"df -h {options.kept_path}")
    elif page["left_out.not_in_ring"]:
        why = f"The ring had no frames of {page['left_out.not_in_ring']:,} events when the keeper looked."
        yield warn(counts, why, "raise record.bytes or record.seconds")
    else:
        yield ok(counts)


@RUN.check("files")
def files(facts: RunFacts) -> Iterator[CheckResult]:
    """Check the files process and its folder, if there is one."""
    page, options = facts.now.files, facts.config.files
    if not page:
        return
    left_out = sum(under(worker, "files_left_out") for worker in facts.now.workers) + under(page, "left_out")
    stored = f"{page['stored_files']:,} files, {size(page['stored_bytes'])} of {size(options.budget_bytes)}"
    if page["write_errors"]:
        why = "The disk is full, or fails. Events are not affected."
        yield warn(f"{page['left_out.disk']:,} files could not be written ({stored})", why, f"df -h {options.path}")
    else:
        yield ok(f"{page['kept']:,} files kept, {page['duplicates']:,} duplicates, {left_out:,} left out; {stored}")


@RUN.check("sandbox")
def sandbox(facts: RunFacts) -> Iterator[CheckResult]:
    """Check the sandbox of each process."""
    open_gates: dict[str, list[str]] = {}
    for name, page in facts.processes:
        for fence in FENCES_OF[name.partition(" ")[0]]:
            if not page[f"sandbox.{fence}"]:
                open_gates.setdefault(fence, []).append(name)
    if facts.config.run.sandbox == "off":
        yield warn(
            "run.sandbox is off",
            "A fault in the code that parses hostile bytes could do more harm.",
            'run.sandbox = "on"',
        )
    elif open_gates:
        seen = "; ".join(f"without {fence}: {', '.join(names)}" for fence, names in open_gates.items())
        why = "A fault in the code that parses hostile bytes could do more harm."
        yield warn(seen, why, "grep . /sys/kernel/security/lsm; uname -r")
    else:
        yield ok("every process has its full sandbox")
