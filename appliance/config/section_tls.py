"""The section [tls] of the options."""

from typing import Annotated

from appliance.config.field import Section, note


class Tls(Section, frozen=True):
    """Limits of the TLS reader, and the content of its events."""

    keylog: Annotated[
        str,
        note(
            "File in the format of SSLKEYLOGFILE, whose secrets open TLS 1.0 to 1.3. It is followed while it grows, "
            'and may be absent at first. "" is none.',
            counter="appliance_tls_keylog_lines_total",
        ),
    ] = ""
    capture_secrets: Annotated[
        bool, note("Use the secrets that a pcapng capture itself contains, if the dataset tls is on.")
    ] = True
    max_keys: Annotated[
        int,
        note(
            "Secrets that are kept for connections to come. TLS 1.3 has four or five for each connection, TLS 1.2 has "
            "one.",
            unit="secrets",
            ge=16,
            le=1 << 24,
            reached="the secrets of the oldest session are dropped",
            counter='appliance_tls_keys_gone_total{reason="limit"}',
        ),
    ] = 262144
    max_key_age_s: Annotated[
        float,
        note(
            "Age at which a live capture drops secrets that no connection uses.",
            unit="seconds",
            ge=1,
            le=1e6,
            reached="they are dropped",
            counter='appliance_tls_keys_gone_total{reason="age"}',
        ),
    ] = 3600.0
    max_pending_bytes: Annotated[
        int,
        note(
            "Encrypted bytes of one connection that wait for secrets which come later.",
            unit="bytes per connection",
            ge=4096,
            le=1 << 30,
            reached="the connection is not decrypted",
            counter='appliance_tls_limits_total{limit="pending_bytes"}',
        ),
    ] = 1048576
    max_total_pending_bytes: Annotated[
        int,
        note(
            "The same of all connections of a worker.",
            unit="bytes per worker",
            ge=65536,
            le=1 << 40,
            reached="the connection that would hold more is not decrypted",
            counter='appliance_tls_limits_total{limit="pending_bytes"}',
        ),
    ] = 134217728
    key_wait_s: Annotated[
        float,
        note(
            "Time for which encrypted bytes wait for secrets; in a live capture also those of connections that ended.",
            unit="seconds",
            ge=0,
            le=86400,
            reached="the connection is not decrypted",
            counter='appliance_tls_decrypted_total{outcome="no_key"}',
        ),
    ] = 10.0
    ja3: Annotated[bool, note("Put the older fingerprint JA3 into events, beside JA4.")] = False
    max_hello_bytes: Annotated[
        int,
        note(
            "Maximum size of a hello that is read to its end. Post-quantum keys make some 2 KiB of it.",
            unit="bytes",
            ge=1024,
            le=1 << 24,
            reached="the rest of the hello is skipped; the event has no fingerprint",
            counter='appliance_tls_limits_total{limit="hello_bytes"}',
        ),
    ] = 131072
    max_certificate_bytes: Annotated[
        int,
        note(
            "Maximum size of a server certificate; usual ones have 1 to 2 KiB.",
            unit="bytes",
            ge=256,
            le=1 << 24,
            reached="the certificate is skipped",
            counter='appliance_tls_limits_total{limit="certificate_bytes"}',
        ),
    ] = 65536
    max_total_bytes: Annotated[
        int,
        note(
            "Bytes of unfinished messages of all handshakes of a worker: bounds its memory when many clients send "
            "half a hello each.",
            unit="bytes per worker",
            ge=4096,
            le=1 << 40,
            reached="the message that grew last is abandoned; the event has what was read of it",
            counter='appliance_tls_limits_total{limit="total_bytes"}',
        ),
    ] = 67108864
    max_values: Annotated[
        int,
        note(
            "Maximum number of entries of a list in an event: ALPN, versions, alternative names of a certificate.",
            unit="entries",
            ge=1,
            le=4096,
            reached="the list is cut",
            counter='appliance_tls_limits_total{limit="values"}',
        ),
    ] = 64
    max_name_bytes: Annotated[
        int,
        note(
            "Maximum length of a name in an event. A name of a host has at most 255 bytes.",
            unit="bytes",
            ge=255,
            le=65535,
            reached="the name is left out",
            counter='appliance_tls_limits_total{limit="values"}',
        ),
    ] = 1024
    max_certificates: Annotated[
        int,
        note(
            "Certificates whose fields are remembered, some 2 KB each: a new one costs as much as many handshakes.",
            unit="certificates per worker",
            ge=1,
            le=1 << 20,
            reached="the oldest one is forgotten",
            counter='appliance_tls_certificates_total{outcome="parsed"}',
        ),
    ] = 4096
    certificates_per_s: Annotated[
        int,
        note(
            "New certificates parsed in a second of capture time, with a burst of as many.",
            unit="certificates per second and worker",
            ge=1,
            le=1_000_000,
            reached="events have only the digest of further ones",
            counter='appliance_tls_certificates_total{outcome="skipped"}',
        ),
    ] = 1000
