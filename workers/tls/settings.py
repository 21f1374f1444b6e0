"""From the options of [tls] to the context of a worker's handshakes."""

from __future__ import annotations

from appliance.config.schema import Tls
from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext


def context_of(tls: Tls) -> TlsContext:
    """Return a context with these limits, which parses certificates."""
    context = TlsContext(certificates=Certificates(**_of_certificates(tls)))
    context.configure(tls)
    return context


def configure(context: TlsContext, tls: Tls) -> None:
    """Apply other limits to a context of context_of()."""
    context.configure(tls)
    if context.certificates is not None:
        context.certificates.configure(**_of_certificates(tls))


def _of_certificates(tls: Tls) -> dict[str, int]:
    return {
        "max_entries": tls.max_certificates,
        "max_per_second": tls.certificates_per_s,
        "max_values": tls.max_values,
        "max_name_bytes": tls.max_name_bytes,
    }
