"""Every metric, in the order of a scrape.

No label value comes from traffic, and every series is there from the start, so that rate() and alerts see the first
loss. collector.py turns the families into the text that Prometheus reads.
"""

from appliance.metrics.families_capture import CAPTURE_FAMILIES
from appliance.metrics.families_feed import FEED_FAMILIES
from appliance.metrics.families_files import FILES_FAMILIES
from appliance.metrics.families_keeper import KEEPER_FAMILIES
from appliance.metrics.families_processes import PROCESS_FAMILIES
from appliance.metrics.families_recorder import RECORDER_FAMILIES
from appliance.metrics.families_run import RUN_FAMILIES
from appliance.metrics.families_workers import WORKER_FAMILIES

FAMILIES = (
    *RUN_FAMILIES,
    *CAPTURE_FAMILIES,
    *WORKER_FAMILIES,
    *FEED_FAMILIES,
    *RECORDER_FAMILIES,
    *KEEPER_FAMILIES,
    *FILES_FAMILIES,
    *PROCESS_FAMILIES,
)
