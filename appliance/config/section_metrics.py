"""The section [metrics] of the options."""

from typing import Annotated

from appliance.config import defaults
from appliance.config.field import Section, note


class Metrics(Section, frozen=True):
    """Prometheus metrics and /healthz."""

    bind: Annotated[
        str, note('Address of /metrics and /healthz: HOST:PORT or "off". "off" for a capture file, unless set.')
    ] = defaults.METRICS
