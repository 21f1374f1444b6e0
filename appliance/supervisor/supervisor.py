"""The supervisor: starts the processes of one run, watches them, restarts them, and drains them at the end.

It waits in one place for the three things that concern it: a child that ended, a signal, the clock. It reads what the
children do from their stats pages and speaks to them only by signals: SIGTERM to a capture means "take no more frames,
send what you have and the end mark"; end marks then travel along the data path and each process leaves in its turn.
SIGTERM to a worker or the feed means "the end marks you wait for cannot come any more: finish what has arrived".
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import stat
import time
from typing import TYPE_CHECKING

from appliance.config.errors import ConfigError
from appliance.config.handover import ConfigUpdate
from appliance.config.schema import Config
from appliance.keylog.link import SecretLink
from appliance.native import file_systems
from appliance.output import output_file as outfile
from appliance.report import status_lines as summary
from appliance.report.run_report import Report
from appliance.runtime import log, sandbox
from appliance.runtime.paths import Paths
from appliance.runtime.resolved_config import encoded, save_resolved
from appliance.runtime.run_directory import RunDirectory, unusable
from appliance.stats import ledger
from appliance.stats.layout import supervisor_layout
from appliance.stats.names import DONE, READY
from appliance.stats.page import SharedPage
from appliance.stats.received_counters import ReceivedCounters
from appliance.stats.snapshot import Snapshots
from appliance.supervisor import health, reload, start_checks
from appliance.supervisor.blind_time import BlindTime
from appliance.supervisor.child_process import UNUSABLE, Child, ParentDeathPipe, description, load, signals_on_pipe
from appliance.supervisor.children import Children
from appliance.supervisor.metrics_endpoint import MetricsEndpoint
from appliance.supervisor.secrets import FOLLOW_INTERVAL_S, RunSecrets
from appliance.supervisor.starved_receivers import END_MARK_TIMEOUT_S, StarvedReceivers
from appliance.supervisor.systemd_notify import Manager

if TYPE_CHECKING:
    from appliance.report.transaction_table import TransactionTable

FALSE_STARTS = 5  # in a row without any work; then the run ends, if it is of a file or the process was never ready
WATCH_INTERVAL_S = 1.0
LAST_LINK_TYPE = 0xFFFF  # more is no link type

# Several kinds of them load these.
SHARED = tuple(
    f"appliance.{name}"
    for name in ("ipc.frame_link", "ipc.event_link", "ipc.event_runs", "runtime.end_marks", "stats.receive_cursor")
)
STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Supervisor:
    """One run of the appliance. Make it, call `run` once.

    origin: SIGHUP reads it again. alone: this process does nothing else before or after, so it may enter a sandbox.
    table: shows the events of standard output.
    """

    def __init__(
        self,
        config: Config,
        report: Report,
        origin: reload.Origin | None = None,
        *,
        alone: bool = False,
        table: TransactionTable | None = None,
    ) -> None:
        self.config = config
        self.alone = alone
        self.table = table
        self.report = report
        self.origin = origin
        self.children = Children()
        self.page: SharedPage
        self.manager = Manager()
        self._selector = selectors.DefaultSelector()
        self._home: RunDirectory
        self._blind: BlindTime | None = None  # of live capture
        self._user: tuple[int, int] | None = None  # (uid, gid) of the children, if that is not ours
        self._quarantined = 0  # quarantined batches already collected
        self._metrics = MetricsEndpoint(config, self.snapshots, self.healthy)
        self._had_terminal = reload.has_terminal()
        self._started = time.monotonic()
        self._announced = config.lossless
        self._stopped_by = 0  # the signal
        self._draining = False
        self._deadline: float | None = None  # time.monotonic() at which a drain is cut short
        self._killed = False
        self._unusable = False
        self._failed = False
        self._end_marks_lost = False  # a process ended unexpectedly, so end marks may be missing
        self._has_reader = False  # the output is a pipe: its other end may go away
        self._made: list[str] = []  # files that were made for this run, and are empty
        self._starved = StarvedReceivers()

    def run(self) -> int:
        """Run to the end and return the exit code. Raises Unusable if no process was started."""
        config = self.config
        with signals_on_pipe(STOP_SIGNALS) as stop:
            home = RunDirectory.open(config.run.directory)
            death_pipe = ParentDeathPipe()
            try:
                self._metrics.reserve(self._started)
                self._user = self.report.user = start_checks.child_user(config)
                self._made = start_checks.make_outputs(config, self._user)
                self._has_reader = config.output.path == "-" and not _is_file(1)
                try:
                    self._prepare(home, death_pipe)
                except OSError as error:
                    raise unusable(home.path, error) from error
                free = None if config.lossless else file_systems.free_bytes(home.path)
                self._selector.register(stop, selectors.EVENT_READ)
                self._start_all()
                if free is not None:
                    start_checks.check_memory(config, home.path, free, self.report)
                if self._announced:  # a file: nothing to wait for
                    self.manager.ready()
                self._watch(stop)
                return self._finish(stop)
            finally:
                self._kill_everything()
                self._watch(stop)
                self.report.clear()
                for path in self._made if self._unusable else ():
                    outfile.remove_if_empty(path, self._user)
                self._selector.close()
                death_pipe.close()
                self._keep_quarantined()
                home.close()

    # -- starting ------------------------------------------------------------------------------------------------------

    def _prepare(self, home: RunDirectory, death_pipe: ParentDeathPipe) -> None:
        config = self.config
        self._home = home
        self._blind = None if config.lossless else BlindTime(home)
        paths = Paths(home.path)
        captures, workers = config.capture_count, config.worker_count
        self.page = SharedPage.create(
            paths.supervisor_page,
            supervisor_layout(
                workers,
                captures,
                recording=bool(config.record.path),
                keeping=config.record.keeps,
                files=bool(config.files.path),
            ),
        )
        self.page.update({"state": READY, "pid": os.getpid(), "starts": 1, "generation": 1})
        log.start(config, "supervisor", self.page)
        self._secrets = RunSecrets(config, self.page, self.report.warn)
        update = ConfigUpdate(1, encoded(config))
        self.children.make(config, paths, death_pipe.reader)
        for child in self.children:
            child.inform(update)
        for worker in self.children.workers:
            worker.ring = self._secrets.ring
        for capture in self.children.captures:
            capture.tells_secrets = config.lossless and config.tls.capture_secrets
        home.furnish(self.children.folders, files=self.children.pages, shown=self.page.fileno(), user=self._user)
        save_resolved(config, home.path, gid=self._user and self._user[1])
        sandbox.guard(config, self.page, alone=self.alone)
        self.report.watch(self.snapshots)

    def _keep_quarantined(self) -> None:
        """Collect newly quarantined batches from the workers."""
        seen = sum(child.page["quarantined_batches"] for child in self.children.workers)
        if seen != self._quarantined:
            self._quarantined = seen
            try:
                limit, source = self.config.workers.quarantine_files, self.config.source.file
                self._home.quarantine(len(self.children.workers), limit, spare=source)
            except OSError as error:
                self.report.warn(f"a batch in quarantine cannot be kept: {error.strerror}", reason="loss")

    def _start_all(self) -> None:
        """Start all children for the first time; forks share the modules that this process loads.

        The only process of its kind loads its own code, on another core, while this process goes on; several would each
        load the same. A single worker has the most to load and starts first. Several start last, so that no other
        process has the parsers in memory.
        """
        fork = self.config if self.alone else None
        for module in SHARED if fork else ():
            load(module, self.config)
        captures, workers, others = self.children.captures, self.children.workers, self.children.others
        for kind in (captures, others, workers) if len(workers) > 1 else (workers, captures, others):
            for child in kind:
                if fork and kind is not others and len(kind) > 1:
                    load(child.module, fork)
                self._start(child, fork=fork)
        if fork:
            gc.enable()

    def _start(self, child: Child, *, fork: Config | None = None) -> None:
        now = time.monotonic()
        try:
            child.start(now, fork=fork)
        except OSError as error:
            delay = child.schedule_restart(now)
            self.report.warn(f"{child.name} cannot be started: {error.strerror}; trying again in {delay:g} s")
            return
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        if child.tells_secrets and child.secrets:
            self._selector.register(child.secrets.link, selectors.EVENT_READ, child.secrets.link)

    # -- watching ------------------------------------------------------------------------------------------------------

    def _watch(self, stop: int) -> None:
        while not all(child.finished for child in self.children):
            for key, _ in self._selector.select(self._wait_s(time.monotonic())):
                if isinstance(key.data, SecretLink):
                    self._on_secrets(key.data)
                elif key.data is not None:
                    self._on_child_end(key.data)
                else:
                    for number in os.read(stop, 64):
                        self._on_signal(number)
            self._run_timers(time.monotonic())

    def _wait_s(self, now: float) -> float | None:
        """Return the seconds until the next task of the clock; None if only a child or a signal can wake us."""
        due = [self._deadline, self._metrics.due_at, *(child.restart_at for child in self.children)]
        times = [time for time in due if time is not None]
        if self.report.interval_s:
            times.append(now + self.report.interval_s)
        if self.manager.interval_s:
            times.append(now + self.manager.interval_s)
        if not self.config.lossless:
            times.append(now + (WATCH_INTERVAL_S if self._announced else WATCH_INTERVAL_S / 20))
        if self._secrets.follows:
            times.append(now + FOLLOW_INTERVAL_S)
        if self._end_marks_lost or self._has_reader:
            times.append(now + END_MARK_TIMEOUT_S / 4)
        return max(0.0, min(times) - now) if times else None

    def _run_timers(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline and not self._killed:
            self.report.warn(f"not drained within {self.config.run.drain_s:g} s: killing what still runs")
            self._failed = True
            self._kill_everything()
        for child in self.children:
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)
            child.remind()
        self._secrets.poll()
        self._secrets.supply(self.children.workers)
        self._keep_quarantined()
        if self._end_marks_lost:
            for receiver in self._starved.find(self.children, now):
                receiver.send(signal.SIGTERM)  # no more messages will come
        if self.children.feed.page["output_closed"] and not self._draining:
            output = "standard output" if self.config.output.path == "-" else self.config.output.path
            self.report.warn(f"{output} has no reader any more; stopping")
            self._drain()  # the reader has left, which ends the run and is no failure
        if self._metrics.due_at is not None and now >= self._metrics.due_at:
            self._serve_metrics()
        if not (self.config.lossless or self._draining):  # a drain has its own limit
            self._kill_hung(now)
        if self._blind and self._blind.awaited and all(c.page["state"] == READY for c in self.children.captures):
            self.page["blind_ns"] = self._blind.end()
            self.report.blind(self.page["blind_ns"])
        if not self._announced and all(child.page["state"] == READY for child in self.children):
            self._announced = True
            self.report.ready(self._home.path)
            self.manager.ready(f"capturing on {', '.join(self.config.source.interfaces)}")
        self.report.tick(now)
        self.manager.alive(now)
        if self.manager.due(now):
            self.manager.status(summary.totals(self.snapshots(), now - self._started))

    def _serve_metrics(self) -> None:
        try:
            address = self._metrics.serve()
        except OSError as error:
            self.report.warn(f"--metrics {self.config.metrics.bind}: {error.strerror}; continuing without metrics")
            return
        self._home.write(Paths(self._home.path).endpoint("metrics").name, address.encode())

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP and self._had_terminal == reload.has_terminal():
            feed = self.children.feed
            if feed.page["state"] >= READY:  # one that only begins opens the output, and may not hear it yet
                feed.send(signal.SIGHUP)
            self._reload()
        elif self._stopped_by:
            self.report.warn("killing everything at the second signal")
            self._failed = True
            self._kill_everything()
        elif number in STOP_SIGNALS:
            self._stopped_by = number
            self._drain()

    def _reload(self) -> None:
        """Apply the configuration that is in the file now, or report every fault in it.

        The children learn of a new one by their links. The feed reads the folder of keys again in any case.
        """
        page = self.page
        if self.origin is None and not self.config.feed.curve_clients:
            self.report.warn("nothing to reload: it was started without a configuration file (-c)")
            return
        if self._draining:
            self.report.warn("not reloaded: it is stopping")
            return
        page["reloaded_ns"] = time.time_ns()
        self.manager.reloading()
        found = [child.page["link_type"] for child in self.children.captures if child.page["state"] >= READY]
        opened = [link_type for link_type in found if link_type <= LAST_LINK_TYPE]
        try:
            config, changed = reload.read(self.origin, self.config, opened) if self.origin else (self.config, [])
            save_resolved(config, self._home.path, gid=self._user and self._user[1])
        except (ConfigError, OSError) as error:
            for line in str(error).splitlines():
                self.report.warn(f"not reloaded: {line}")
            page.add("reloads.refused", 1)
            page["config_error"] = 1
            self.manager.ready(f"not reloaded: {str(error).splitlines()[0]}")
            return
        self.config = self.report.config = config
        self._secrets.configure(config)
        self._metrics.configure(config)
        page.add("generation", 1)
        page.add("reloads.applied", 1)
        page["config_error"] = 0
        update = ConfigUpdate(page["generation"], encoded(config))
        for child in self.children:
            child.inform(update)
        self.manager.ready(f"configuration {page['generation']}")
        self.report.warn(f"configuration {page['generation']}: {', '.join(changed) or 'no change'}")

    def _on_secrets(self, link: SecretLink) -> None:
        """Pass the secrets of a capture on to the workers."""
        self._secrets.take(link)
        self._secrets.supply(self.children.workers)
        if link.ended:
            self._selector.unregister(link)

    def _drain(self) -> None:
        """Stop the captures; end marks then stop everything behind them."""
        if self._draining:
            return
        self._draining = True
        self.manager.stopping("draining")
        self._deadline = time.monotonic() + self.config.run.drain_s
        if self._blind:
            self._blind.stop()
        for capture in self.children.captures:
            if capture.alive:
                capture.send(signal.SIGTERM)
            elif capture.restart_at is not None:
                capture.restart_at = None
                capture.finished = self._end_marks_lost = True

    def _on_child_end(self, child: Child) -> None:
        self._selector.unregister(child.pidfd)
        link = child.secrets.link if child.tells_secrets and child.secrets else None
        if link is not None and link.fileno() in self._selector.get_map():
            self._selector.unregister(link)
        code = child.reap()
        ending = self.config.lossless or self._draining
        if self._killed or (code == 0 and ending):
            child.finished = True
        elif code == UNUSABLE and not child.ever_ready:
            self._unusable = True
            self._kill_everything()
        elif child.kind == "capture" and ending and (self._draining or child.page["state"] == DONE):
            child.finished = self._end_marks_lost = True
            if not self._draining or code != -signal.SIGTERM:  # else the signal was faster than its start
                self._failed = True
        elif child.false_starts >= FALSE_STARTS and not child.ever_ready:
            self.report.warn(f"{child.name} {description(code)}: it could not be started {FALSE_STARTS} times in a row")
            self._failed = True
            self._kill_everything()
        elif child.false_starts >= FALSE_STARTS and self.config.lossless:
            self.report.warn(f"{child.name} {description(code)}: {FALSE_STARTS} starts in a row did no work")
            self._failed = True
            self._kill_everything()
        else:
            self._restart(child, code)

    def _restart(self, child: Child, code: int) -> None:
        """Plan the next start.

        A file cannot be resumed: its capture restarts only to reconcile its counters, and fails.
        """
        self._end_marks_lost = True
        for sender in self.children.senders_to(child):
            if not sender.finished:
                ReceivedCounters(child.page, sender.index).ended = False  # the end mark was for the process before it
        delay = child.schedule_restart(time.monotonic())
        slot = f"{child.kind}.{child.index}" if child.kind in ("capture", "worker") else child.kind
        self.page.add(f"restarts.{slot}", 1)
        self.page.add(f"hung.{slot}", int(child.hung))
        when = f"in {delay:g} s" if delay else "now"
        self.report.warn(f"{child.name} {description(code)}: restarting {when}")

    def _kill_hung(self, now: float) -> None:
        for child, still_s in health.hung(self.children, now, self.config.run.hung_s):
            self.report.warn(f"{child.name} made no progress for {still_s:.0f} s: killing it")
            child.hung = True
            child.send(signal.SIGKILL)

    def _kill_everything(self) -> None:
        self._killed = True
        for child in self.children:
            child.restart_at = None
            child.send(signal.SIGKILL)
            child.finished = not child.alive

    # -- what others ask -----------------------------------------------------------------------------------------------

    def snapshots(self) -> Snapshots:
        """Return every page as it is now."""
        return self.children.snapshots(self.page.snapshot)

    def healthy(self) -> tuple[bool, str]:
        """Return whether every process makes progress, and the complaints. The thread of /healthz calls it."""
        complaints = list(health.complaints(self.children, time.monotonic_ns(), failed=self._failed))
        return not complaints, "\n".join(complaints)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _finish(self, stop: int) -> int:
        if self._unusable:
            return UNUSABLE
        self.report.clear()
        if self.table and not self.table.finish(stop):
            self._failed = True
        self.children.settle()
        last = self.snapshots()
        delivered = self.report.conclude(last, ledger.identities(last))
        if self._failed or (not delivered and not self._stopped_by):
            return 1
        return 128 + self._stopped_by if self._stopped_by else 0


def _is_file(descriptor: int) -> bool:
    """Return whether it is a file or a device such as /dev/null, which never lose their reader."""
    mode = os.fstat(descriptor).st_mode
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
