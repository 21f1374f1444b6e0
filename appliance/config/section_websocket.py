"""The section [websocket] of the options."""

from typing import Annotated

from appliance.config.field import Section, note


class WebSocket(Section, frozen=True):
    """WebSocket connections behind an HTTP upgrade. Frames are counted and skipped by their length."""

    decode: Annotated[
        bool,
        note(
            "Unmask and decode compressed messages (permessage-deflate), for decoded_bytes. It costs time per byte. "
            "The limits of [bodies] hold for each message.",
            reached="decoding ends for that side of the connection: no decoded_bytes, marked decoding_limit",
            counter='appliance_websocket_anomalies_total{anomaly="decoding_limit"}',
        ),
    ] = False
    max_url_bytes: Annotated[
        int,
        note(
            "Maximum size of target and Host of an upgrade that are kept in memory while its connection lasts.",
            unit="bytes per connection",
            ge=0,
            le=1 << 20,
            reached="events of the connection have no url; the http event of the upgrade has it",
        ),
    ] = 2048
