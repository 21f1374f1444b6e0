"""What can be wrong with an appliance while it runs: its pages at two moments, judged. See finding.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from appliance import ledger, summary
from appliance.books import under
from appliance.config import Config
from appliance.finding import Checks, Said, bad, doubt, good
from appliance.stats import DRAINING, FENCES_OF, READY, Counts
from appliance.summary import Snapshots, duration

STALE_S = 10.0
LATE_S = 1.0
MUCH = 0.01
FAR = 0.1
UNEVEN = 2.0  # times the mean of all workers
BUSY_FRAMES_S = 1000  # below that a worker's share is chance
IN_FLIGHT_S = 2.0  # of traffic: rings, links and half a batch
FEW = 1000


class Facts(NamedTuple):
    """A run at two moments, some seconds apart."""

    config: Config
    before: Snapshots
    now: Snapshots
    seconds: float
    now_ns: int  # time.monotonic_ns() of the second

    def gain(self, count: Callable[[Snapshots], int]) -> int:
        """How much a sum has grown between the two."""
        return count(self.now) - count(self.before)

    @property
    def processes(self) -> list[tuple[str, Counts]]:
        now = self.now
        captures = [(f"capture {c}", page) for c, page in enumerate(now.captures)]
        return [*captures, *((f"worker {w}", page) for w, page in enumerate(now.workers)), ("feed", now.feed)]


RUN = Checks[Facts]()


def of_workers(name: str) -> Callable[[Snapshots], int]:
    return lambda pages: sum(page[name] for page in pages.workers)


def _groups(name: str) -> Callable[[Snapshots], int]:
    """The sum of the slots `name.…` of all workers."""
    return lambda pages: sum(under(page, name) for page in pages.workers)


@RUN.check("processes")
def processes(facts: Facts) -> Iterator[Said]:
    """All there, all at work."""
    complaints = []
    for name, page in facts.processes:
        age = max(0, facts.now_ns - page["progress_ns"]) / 1e9
        if page["state"] not in (READY, DRAINING):
            complaints.append(f"{name} is not at work")
        elif page["error"]:
            complaints.append(f"{name} reports an error")
        elif age > STALE_S:
            complaints.append(f"{name} made no progress for {duration(age)}")
    restarts = facts.now.restarts()
    if complaints:
        yield bad("; ".join(complaints), "What it should do is not done now.", "journalctl -u 'appliance*' -n 50")
    elif restarts:
        why = "A process died, by a fault of ours or for want of memory; what it had in its hands is lost, and counted."
        yield doubt(f"all at work; started again {restarts} times", why, "journalctl -u 'appliance*' -p warning")
    else:
        yield good(f"{len(facts.processes)} at work, none was started again")


@RUN.check("traffic")
def traffic(facts: Facts) -> Iterator[Said]:
    """Frames come in, on every interface."""
    pairs = enumerate(zip(facts.before.captures, facts.now.captures, strict=True))
    heard = {facts.config.interface_of(index) for index, (before, now) in pairs if now["frames"] != before["frames"]}
    silent = [name for name in facts.config.source.interfaces if name not in heard]
    if silent and not facts.config.lossless:
        why = "A mirror that is switched off, a cable, or a filter that takes nothing looks like this."
        seen = f"no frame on {', '.join(silent)} for {facts.seconds:.0f} s"
        yield doubt(seen, why, f"appliance packets -i {silent[0]} -n 5")
    else:
        yield good(summary.rates(facts.now, facts.before, facts.seconds))


@RUN.check("losses")
def losses(facts: Facts) -> Iterator[Said]:
    """Every place where frames or events can be lost, with the option to turn."""
    known = {loss.kind: loss.total for loss in summary.losses(facts.before, facts.config)}
    found = summary.losses(facts.now, facts.config)
    for loss in found:
        if fresh := loss.total - known.get(loss.kind, 0):
            yield bad(
                f"now: {fresh:,} {loss.what} within {facts.seconds:.0f} s", "It goes on as you read this.", loss.remedy
            )
        else:
            yield doubt(
                f"earlier: {loss.total:,} {loss.what}", "Not now; the counter is that of the whole run.", loss.remedy
            )
    if not found:
        yield good("nothing was lost since the start")


@RUN.check("ledger")
def accounts(facts: Facts) -> Iterator[Said]:
    """What is nowhere is on its way: no more than that."""
    frames = facts.gain(Snapshots.frames) / max(facts.seconds, 1e-9)
    open_now, open_before = (ledger.in_flight(ledger.identities(pages)) for pages in (facts.now, facts.before))
    lasting = min(open_now, open_before)
    seen = f"{open_now:,} frames on their way"
    if lasting > FEW + frames * IN_FLIGHT_S:
        why = "More than rings and links should hold for so long: a process stands still, or frames are in no count."
        yield doubt(f"{seen}, {lasting:,} of them for {facts.seconds:.0f} s", why, "appliance top")
    else:
        yield good(seen)


@RUN.check("both sides")
def both_sides(facts: Facts) -> Iterator[Said]:
    """Connections have two directions."""
    ended = sum(under(page, "flows_ended") - page["flows_ended.half_open"] for page in facts.now.workers)
    one_sided = of_workers("flows_one_sided")(facts.now)
    if not ended:
        return
    seen = f"{one_sided:,} of {ended:,} connections that ended had one direction only"
    if one_sided > ended * FAR:
        why = "Requests without responses, or responses alone: a mirror of one direction, or half of a TAP."
        yield doubt(seen, why, "mirror both directions, or name both halves of the TAP with -i")
    else:
        yield good(seen)


@RUN.check("before us")
def upstream(facts: Facts) -> Iterator[Said]:
    """Receivers acknowledge what we have seen."""
    unseen, delivered = (of_workers(name)(facts.now) for name in ("acked_unseen_bytes", "payload.delivered"))
    total = unseen + delivered
    if not total:
        return
    share = unseen / total
    seen = f"{100 * share:.2g} % of the bytes that were acknowledged were never seen"
    if summary.dropped_frames(facts.now) or facts.now.total("shed_frames") or facts.now.total("kernel_shed_ns"):
        yield good(f"{seen}; as frames were lost or left out here, this says nothing of what was lost before")
        return
    why = "Lost before this machine's kernel: in the mirror port, the broker, the card. No counter here knows them."
    mend = f"ethtool -S {next(iter(facts.config.source.interfaces), 'IFACE')} | grep -iE 'drop|miss|err'"
    if share > FAR:
        yield bad(seen, why, mend)
    elif share > MUCH:
        yield doubt(seen, why, mend)
    else:
        yield good(seen)


@RUN.check("copies")
def copies(facts: Facts) -> Iterator[Said]:
    """Frames come once."""
    copied, segments = (of_workers(name)(facts.now) for name in ("duplicate_frames", "segments"))
    if not segments:
        return
    seen = f"{copied:,} of {segments:,} segments came twice"
    if copied > segments * MUCH:
        why = "They cost as much as the others. A mirror of both ports of a path, or of a VLAN, copies twice."
        yield doubt(seen, why, "mirror each port in one direction (rx), or one port of the path")
    else:
        yield good(seen)


@RUN.check("checksums")
def checksums(facts: Facts) -> Iterator[Said]:
    """Few segments are damaged."""
    wrong, segments = (of_workers(name)(facts.now) for name in ("checksums.bad", "segments"))
    if segments and wrong > segments * MUCH:
        why = "Frames are damaged on their way here, or a device changes them without care; receivers do not take them."
        yield doubt(f"{wrong:,} of {segments:,} segments have a wrong checksum", why, "--set tcp.checksums=drop")


@RUN.check("balance")
def balance(facts: Facts) -> Iterator[Said]:
    """Workers have equal work."""
    pairs = zip(facts.before.workers, facts.now.workers, strict=True)
    shares = [now["segments"] - before["segments"] for before, now in pairs]
    mean = sum(shares) / max(1, len(shares))
    if len(shares) < 2 or mean < BUSY_FRAMES_S * facts.seconds:
        return
    worst = max(shares) / mean
    seen = f"the busiest of {len(shares)} workers has {worst:.1f} times the mean"
    if worst > UNEVEN:
        why = (
            "A few connections carry most of the traffic. One connection is one worker's: more workers do not help it."
        )
        yield doubt(seen, why, "leave it out with --filter, as in 'not host 192.0.2.1'")
    else:
        yield good(seen)


@RUN.check("lag")
def lag(facts: Facts) -> Iterator[Said]:
    """Workers are not behind."""
    if not facts.gain(Snapshots.frames):
        return
    worst = max(page["lag_ns"] for page in facts.now.workers) / 1e9
    seen = f"the last batch was {duration(worst)} old when its worker took it"
    if worst > LATE_S:
        why = "The workers have more to do than they can, and links fill up."
        yield doubt(seen, why, f"--workers {len(facts.now.workers) + 1}")
    else:
        yield good(seen)


@RUN.check("limits")
def limits(facts: Facts) -> Iterator[Said]:
    """Limits that were reached."""
    evicted, attempts = (of_workers(f"flows_ended.{end}")(facts.now) for end in ("evicted", "half_open"))
    held, tcp = of_workers("payload.evicted")(facts.now), facts.config.tcp
    reached = [
        (
            evicted,
            "connections given up for want of room",
            f"--set tcp.max_connections={2 * tcp.max_connections}",
        ),
        (
            attempts,
            "attempts forgotten, a flood of SYNs or very many clients",
            f"--set tcp.max_half_open={2 * tcp.max_half_open}",
        ),
        (
            held,
            "bytes given up behind holes",
            f"--set tcp.max_total_pending_bytes={2 * tcp.max_total_pending_bytes}",
        ),
    ]
    for count, what, mend in reached:
        if count:
            yield doubt(f"{count:,} {what}", "A limit of the configuration was reached; it protects the memory.", mend)


@RUN.check("feed")
def feed(facts: Facts) -> Iterator[Said]:
    """Who reads, and who is not let in."""
    page = facts.now.feed
    refused = under(page, "refused")
    seen = f"{page['subscribers']:,} subscriptions, {facts.now.events():,} events published"
    if page["write_errors"] or page["archive_errors"] or page["rotation_errors"]:
        why = "The disk is full, or the folder is not ours any more. Events are on the feed all the same."
        yield doubt(f"{page['write_errors']:,} failed writes to the output", why, f"df -h {facts.config.output.path}")
    if refused:
        why = "Keys that are not in the folder of clients, no key at all, or another protocol."
        yield doubt(f"{seen}; {refused:,} peers were not let in", why, "ss -tnp | grep 5556")
    else:
        yield good(seen)


@RUN.check("sandbox")
def sandbox(facts: Facts) -> Iterator[Said]:
    """Which fences hold around each process."""
    open_gates: dict[str, list[str]] = {}
    for name, page in facts.processes:
        for fence in FENCES_OF[name.partition(" ")[0]]:
            if not page[f"sandbox.{fence}"]:
                open_gates.setdefault(fence, []).append(name)
    if facts.config.run.sandbox == "off":
        yield doubt(
            "run.sandbox is off",
            "A fault in the code that reads hostile bytes could do more harm.",
            'run.sandbox = "on"',
        )
    elif open_gates:
        seen = "; ".join(f"without {fence}: {', '.join(names)}" for fence, names in open_gates.items())
        why = "A fault in the code that reads hostile bytes could do more harm."
        yield doubt(seen, why, "grep . /sys/kernel/security/lsm; uname -r")
    else:
        yield good("all fences hold around every process")
