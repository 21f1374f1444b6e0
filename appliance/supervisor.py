"""The supervisor: starts the processes of one run, watches them, restarts them, and drains them at the end.

It waits in one place for the three things that concern it: a child that ended, a signal, the clock. It reads what the
children do from their stats pages and speaks to them only by signals: SIGTERM to a capture means "take no more frames,
send what you have and the end mark"; end marks then travel along the data path and each process leaves in its turn.
SIGTERM to a worker or the feed means "the end marks you wait for cannot come any more: finish what has arrived".
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import stat
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import books, ledger, log, reload, sandbox, summary
from appliance.config import OFF, Config, ConfigError, save_resolved, split_address
from appliance.locate import VERDICTS
from appliance.notify import Manager
from appliance.processes import UNUSABLE, Child, Lifeline, signals_on_pipe
from appliance.report import Report
from appliance.rundir import RunDirectory, Unusable, prepare_output
from appliance.stats import DONE, READY, Page, capture_layout, feed_layout, supervisor_layout, worker_layout
from appliance.summary import Snapshots

if TYPE_CHECKING:
    from appliance.exporter import Collector, MetricsServer

FALSE_STARTS = 5  # in a row: a process that cannot even start will not at the sixth time
STALE_S = 10.0  # a process that turned its loop longer ago is not healthy
START_S = 30.0  # without a turn of its loop: a process that starts, and may be waiting for memory
QUIET_S = 0.5  # nothing arrived for so long and every sender is gone: nothing will
WATCH_S = 1.0
SERVE_FILE_S = 1.0  # a shorter run over a file ends before anybody scrapes it

# By name, never by import: this half of the house does not know the other.
MODULES = {"capture": "appliance.capture", "worker": "workers.worker", "feed": "appliance.feed"}
NEEDED = "appliance.bus"  # by every child; ZeroMQ has no threads before there is a context
STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Supervisor:
    """One run of the appliance. Make it, call `run` once.

    origin: what SIGHUP reads again. alone: this process does nothing else before or after, so it may be fenced in."""

    def __init__(
        self, config: Config, report: Report, origin: reload.Origin | None = None, *, alone: bool = False
    ) -> None:
        self.config = config
        self.alone = alone
        self.report = report
        self.origin = origin
        self.captures: list[Child] = []
        self.workers: list[Child] = []
        self.feed: Child
        self.children: list[Child] = []  # all of them, in the order of the data path
        self.page: Page
        self.manager = Manager()
        self._selector = selectors.DefaultSelector()
        self._home: Path
        self._metrics: MetricsServer | None = None  # until the process ends: its thread is a daemon
        self._collector: Collector | None = None
        self._had_terminal = reload.has_terminal()
        self._serve_at: float | None = None
        self._started = time.monotonic()
        self._announced = config.lossless
        self._stopped_by = 0  # the signal
        self._draining = False
        self._deadline: float | None = None  # time.monotonic() at which a drain is cut short
        self._killed = False
        self._unusable = False
        self._failed = False
        self._disturbed = False  # something ended that should not have: end marks may be missing
        self._has_reader = False  # the output is a pipe: its other end may go away
        self._quiet: dict[int, tuple[int, float]] = {}  # by pid: frames or events received, since when

    def run(self) -> int:
        """Runs to the end and returns the exit code. Raises Unusable when nothing was started."""
        config = self.config
        with signals_on_pipe(STOP_SIGNALS) as stop:
            home = RunDirectory.open(config.run.directory)
            lifeline = Lifeline()
            try:
                self._reserve_port()
                if config.output.path not in ("", "-"):
                    prepare_output(config.output.opened, replace=config.lossless)
                self._has_reader = bool(config.output.path) and not _is_file(config.output.opened)
                self._prepare(home.path, lifeline)
                self._selector.register(stop, selectors.EVENT_READ)
                self._start_all()
                if self._announced:  # a file: nothing to wait for
                    self.manager.ready()
                self._watch(stop)
                return self._conclude()
            finally:
                self._kill_everything()
                self._watch(stop)
                self._selector.close()
                lifeline.close()
                home.close()

    # -- starting ------------------------------------------------------------------------------------------------------

    def _prepare(self, home: Path, lifeline: Lifeline) -> None:
        config = self.config
        self._home = home
        captures, workers = config.capture_count, config.worker_count
        save_resolved(config, home)
        self.page = Page.create(home / "supervisor.stats", supervisor_layout(workers, captures))
        self.page.update({"state": READY, "pid": os.getpid(), "starts": 1, "generation": 1})
        log.start(config, "supervisor", self.page)
        quiet = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

        def child(kind: str, index: int, names: Sequence[str]) -> Child:
            page = Page.create(home / f"{kind if kind == 'feed' else f'{kind}-{index}'}.stats", names)
            page["wanted_generation"] = 1
            stdout = 1 if kind == "feed" and config.output.path == "-" else quiet
            stdin = None if kind == "capture" and config.source.file == "-" else lifeline.reader
            return Child(kind, index, home, page, module=MODULES[kind], stdin=stdin, stdout=stdout)

        layout = capture_layout(workers, VERDICTS)
        self.captures = [child("capture", c, layout) for c in range(captures)]
        self.workers = [child("worker", w, worker_layout(captures)) for w in range(workers)]
        self.feed = child("feed", 0, feed_layout(workers))
        self.children = [*self.captures, *self.workers, self.feed]
        try:
            sandbox.guard(config, home, self.page, alone=self.alone)
        except sandbox.UnknownUser as fault:
            raise Unusable(str(fault)) from fault
        self.report.watch(self.snapshots)

    def _start_all(self) -> None:
        """For the first time. The captures have the most to do: what all the others need is loaded once, after them."""
        for child in self.children:
            if self.alone and child.kind != "capture":
                import_module(NEEDED)
            self._start(child, fork=self.alone)

    def _start(self, child: Child, *, fork: bool = False) -> None:
        now = time.monotonic()
        try:
            child.start(now, fork=fork)
        except OSError as error:
            delay = child.schedule_restart(now)
            self.report.warn(f"{child.name} cannot be started: {error.strerror}; trying again in {delay:g} s")
            return
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)

    # -- metrics -------------------------------------------------------------------------------------------------------

    def _reserve_port(self) -> None:
        """Finds out whether the port for the metrics can be had, at once and cheaply. Raises Unusable."""
        bind = self.config.metrics.bind
        if bind == OFF:
            return
        host, port = split_address(bind)
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("" if host == "*" else host, port))
        except OSError as error:
            raise Unusable(f"--metrics {bind}: {error.strerror}; name another HOST:PORT, or off") from error
        self._serve_at = self._started + (SERVE_FILE_S if self.config.lossless else 0.0)

    def _serve(self) -> None:
        """Loading the HTTP server costs a short run more than all else that the supervisor does."""
        from appliance.exporter import Collector, MetricsServer

        self._serve_at = None
        self._collector = Collector(self.config, self.snapshots)
        try:
            self._metrics = MetricsServer(self.config.metrics.bind, self._collector.collect, self.healthy)
        except OSError as error:
            self.report.warn(f"--metrics {self.config.metrics.bind}: {error.strerror}; going on without")
            return
        host, _ = split_address(self.config.metrics.bind)
        text = f"[{host}]:{self._metrics.port}" if ":" in host else f"{host}:{self._metrics.port}"
        (self._home / "metrics.endpoint").write_text(text)

    # -- watching ------------------------------------------------------------------------------------------------------

    def _watch(self, stop: int) -> None:
        while not all(child.finished for child in self.children):
            for key, _ in self._selector.select(self._patience(time.monotonic())):
                if key.data is not None:
                    self._ended(key.data)
                else:
                    for number in os.read(stop, 64):
                        self._signalled(number)
            self._clock(time.monotonic())

    def _patience(self, now: float) -> float | None:
        """Seconds until the clock has something to do; None when only a child or a signal can."""
        due = [self._deadline, self._serve_at, *(child.restart_at for child in self.children)]
        times = [time for time in due if time is not None]
        if self.report.interval_s:
            times.append(now + self.report.interval_s)
        if self.manager.interval_s:
            times.append(now + self.manager.interval_s)
        if not self.config.lossless:
            times.append(now + (WATCH_S if self._announced else WATCH_S / 20))
        if self._disturbed or self._has_reader:
            times.append(now + QUIET_S / 4)
        return max(0.0, min(times) - now) if times else None

    def _clock(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline and not self._killed:
            self.report.warn(f"not drained within {self.config.run.drain_s:g} s: killing what still runs")
            self._failed = True
            self._kill_everything()
        for child in self.children:
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)
        if self._disturbed:
            self._release(self.captures, self.workers, now)
            self._release(self.workers, [self.feed], now)
        if self.feed.page["output_closed"] and not self._draining:
            self.report.warn(
                f"nobody reads {'standard output' if self.config.output.path == '-' else 'the output'} any more"
            )
            self._drain()  # whoever left had seen enough: that is an end, not a failure
        if self._serve_at is not None and now >= self._serve_at:
            self._serve()
        if not self.config.lossless:
            self._shake(now)
        if not self._announced and all(child.page["state"] == READY for child in self.children):
            self._announced = True
            self.report.ready(self._home)
            self.manager.ready(f"capturing on {', '.join(self.config.source.interfaces)}")
        self.report.tick(now)
        self.manager.alive(now)
        if self.manager.due(now):
            self.manager.status(summary.totals(self.snapshots(), now - self._started))

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP and self._had_terminal == reload.has_terminal():
            self._reload()
        elif self._stopped_by:
            self.report.warn("killing everything at the second signal")
            self._failed = True
            self._kill_everything()
        elif number in STOP_SIGNALS:
            self._stopped_by = number
            self._drain()

    def _reload(self) -> None:
        """Puts the configuration in force that stands in its file now, or says all that is wrong with it.

        The children see from their pages that there is a new one. A lock's folder of keys is read again in any case."""
        page = self.page
        if self.origin is None and not self.config.feed.curve_clients:
            self.report.warn("nothing to reload: it was started without a configuration file (-c)")
            return
        if self._draining:
            self.report.warn("not reloaded: it is stopping")
            return
        page["reloaded_ns"] = time.time_ns()
        self.manager.reloading()
        opened = [child.page["link_type"] for child in self.captures if child.page["state"] >= READY]
        try:
            config, changed = reload.read(self.origin, self.config, opened) if self.origin else (self.config, [])
            save_resolved(config, self._home)
        except (ConfigError, OSError) as error:
            for line in str(error).splitlines():
                self.report.warn(f"not reloaded: {line}")
            page.add("reloads.refused", 1)
            page["config_error"] = 1
            self.manager.ready(f"not reloaded: {str(error).splitlines()[0]}")
            return
        self.config = config
        if self._collector:
            self._collector.config = config
        page.add("generation", 1)
        page.add("reloads.applied", 1)
        page["config_error"] = 0
        for child in self.children:
            child.page["wanted_generation"] = page["generation"]
        self.manager.ready(f"configuration {page['generation']}")
        self.report.warn(f"configuration {page['generation']}: {', '.join(changed) or 'nothing is new in it'}")

    def _drain(self) -> None:
        """Ends the intake; everything else follows by itself."""
        if self._draining:
            return
        self._draining = True
        self.manager.stopping("bringing out what was taken")
        self._deadline = time.monotonic() + self.config.run.drain_s
        for capture in self.captures:
            if capture.alive:
                capture.send(signal.SIGTERM)
            elif capture.restart_at is not None:
                capture.restart_at = None
                capture.finished = self._disturbed = True

    def _ended(self, child: Child) -> None:
        self._selector.unregister(child.pidfd)
        code = child.reap()
        ending = self.config.lossless or self._draining
        if self._killed or (code == 0 and ending):
            child.finished = True
        elif code == UNUSABLE and not child.ever_ready:
            self._unusable = True
            self._kill_everything()
        elif child.kind == "capture" and ending and (self._draining or child.page["state"] == DONE):
            child.finished = self._disturbed = True
            if not self._draining or code != -signal.SIGTERM:  # else the signal was faster than its start
                self._failed = True
        elif child.false_starts >= FALSE_STARTS and not child.ever_ready:
            self.report.warn(f"{child.name} {_death(code)}: it could not be started {FALSE_STARTS} times in a row")
            self._failed = True
            self._kill_everything()
        else:
            self._restart(child, code)

    def _restart(self, child: Child, code: int) -> None:
        """Plans the next start. A file cannot be resumed: its capture comes back to close its books, and fails."""
        self._disturbed = True
        senders = [] if child.kind == "capture" else self.captures if child.kind == "worker" else self.workers
        for sender in senders:
            if not sender.finished:
                child.page[f"ended.{sender.index}"] = 0  # its predecessor's goodbye is not for this one
        delay = child.schedule_restart(time.monotonic())
        slot = "feed" if child.kind == "feed" else f"{child.kind}.{child.index}"
        self.page.add(f"restarts.{slot}", 1)
        self.page.add(f"hung.{slot}", int(child.hung))
        when = f"in {delay:g} s" if delay else "now"
        self.report.warn(f"{child.name} {_death(code)}: starting it again {when}")

    def _release(self, senders: Sequence[Child], receivers: Iterable[Child], now: float) -> None:
        """Tells receivers whose end marks were lost with a dead process that nothing more will come."""
        if not all(sender.finished for sender in senders):
            return
        for receiver in receivers:
            page = receiver.page
            if not receiver.alive or page["state"] < READY or all(page[f"ended.{s.index}"] for s in senders):
                continue
            received = sum(page[f"received.{s.index}"] for s in senders)
            before, since = self._quiet.get(receiver.pid, (-1, now))
            if received != before:
                self._quiet[receiver.pid] = (received, now)
            elif now - since >= QUIET_S:
                receiver.send(signal.SIGTERM)
                self._quiet[receiver.pid] = (received, now + 3600)

    def _shake(self, now: float) -> None:
        """Kills live processes that do not move; one that only waits turns its loop all the same.

        A drain has its own limit."""
        hung_s = self.config.run.hung_s
        for child in () if self._draining else self.children:
            if not child.alive or child.hung:
                continue
            still_s = child.pulse.look(now, child.page["progress_ns"])
            limit_s = hung_s if child.page["state"] >= READY else max(hung_s, START_S)
            if still_s > limit_s and not child.waits_for_kernel():
                self.report.warn(f"{child.name} has not moved for {still_s:.0f} s: killing it")
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
        """Every page as it is now."""
        # Against the flow: what is on its way is seen where it left, and never where it has not arrived.
        feed = self.feed.page.snapshot()
        workers = [child.page.snapshot() for child in self.workers]
        captures = [child.page.snapshot() for child in self.captures]
        return Snapshots(captures, workers, feed, self.page.snapshot())

    def healthy(self) -> tuple[bool, str]:
        """Whether every process makes progress, and which do not. Called from the thread that serves /healthz."""
        complaints = self._complaints()
        return not complaints, "\n".join(complaints)

    def _complaints(self) -> list[str]:
        now = time.monotonic_ns()
        found = []
        for child in self.children:
            state = child.page["state"]
            if child.finished and not self._failed:
                continue
            if not child.alive:
                found.append(f"{child.name} is not running")
            elif state < READY:
                found.append(f"{child.name} is not ready")
            elif (age := child.progress_age_s(now)) > STALE_S:
                found.append(f"{child.name} made no progress for {age:.0f} s")
        return found

    # -- ending --------------------------------------------------------------------------------------------------------

    def _conclude(self) -> int:
        if self._unusable:
            return UNUSABLE
        books.settle([child.page for child in self.captures], [child.page for child in self.workers], self.feed.page)
        last = self.snapshots()
        self.report.conclude(last, ledger.identities(last))
        if self._failed:
            return 1
        return 128 + self._stopped_by if self._stopped_by else 0


def _is_file(path: str) -> bool:
    """Whether it is on a disk: regular files, and devices such as /dev/null, never lose their reader."""
    mode = os.fstat(1).st_mode if path == "-" else os.stat(path).st_mode
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
