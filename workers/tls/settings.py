"""From the options of [tls] to the context of a worker's handshakes."""

from __future__ import annotations

from appliance.config.schema import Config, Tls
from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.key_store import KeyStore


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


def follow(context: TlsContext, config: Config) -> None:
    """Begin or end the use of secrets, as the options have it. max_key_age_s is of live captures only."""
    age_ns = 0 if config.lossless else int(config.tls.max_key_age_s * 1e9)
    if not config.decrypts:
        if context.keys is not None:
            context.keys.active = False
        return
    options = (config.tls.max_keys, age_ns, bool(config.tls.keylog), not config.lossless)
    if context.keys is None:
        context.keys = KeyStore(*options)
    else:
        context.keys.configure(*options)


def _of_certificates(tls: Tls) -> dict[str, int]:
    return {
        "max_entries": tls.max_certificates,
        "max_per_second": tls.certificates_per_s,
        "max_values": tls.max_values,
        "max_name_bytes": tls.max_name_bytes,
    }
