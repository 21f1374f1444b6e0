"""A filter compiled beside the loop of a capture, which must not stand still for the names and sets in it."""

from __future__ import annotations

import threading
from typing import NamedTuple

from appliance.pcap import opening as pcap


class FilterRequest(NamedTuple):
    """A pcap-filter(7) expression; vlan_aware: also for frames inside VLAN tags."""

    text: str
    vlan_aware: bool


class Compilation:
    """Compile a filter for a handle in a thread; `done` is set at the end, then result() answers."""

    def __init__(self, handle: pcap.Handle, wanted: FilterRequest) -> None:
        self.wanted = wanted
        self.done = threading.Event()
        self._handle = handle
        self._result = wanted
        self._fault: Exception | None = None
        threading.Thread(target=self._run, name="filter", daemon=True).start()

    def _run(self) -> None:
        try:
            self._result = self._compiled()
        except Exception as fault:  # raised again by result()
            self._fault = fault
        finally:
            self.done.set()

    def _compiled(self) -> FilterRequest:
        if self.wanted.vlan_aware:
            try:
                self._handle.compile_filter(self.wanted.text, vlan_aware=True)
                return self.wanted
            except pcap.BadFilter:
                pass  # not every expression may stand behind `vlan`; if it is wrong by itself, the next line says so
        self._handle.compile_filter(self.wanted.text)
        return FilterRequest(self.wanted.text, False)

    def result(self) -> FilterRequest:
        """Return what set_filter() can take now. Raises BadFilter."""
        if self._fault is not None:
            raise self._fault
        return self._result
