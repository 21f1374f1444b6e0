"""Certificates: DER bytes of a server's certificate to its event fields.

`cryptography` parses: X.509 in Rust, so hostile DER cannot corrupt memory. A parse costs as much as many handshakes.
The result is therefore cached by the certificate's SHA-256, and new certificates are parsed at a limited rate. Of a
certificate beyond that rate, and of one that does not parse, only the digest is known.
"""

from __future__ import annotations

import json
import warnings
from datetime import datetime

from appliance.config.schema import Tls
from appliance.native.digests import sha256
from workers.tls.x509_library import x509

DEFAULTS = Tls()
Facts = dict[str, object]  # the fields of `tls.server`


class ServerCertificate:
    """A certificate in an event. facts: the fields of `tls.server`; json: the same as ASCII."""

    __slots__ = ("facts", "json", "parsed")

    def __init__(self, facts: Facts, parsed: bool) -> None:
        self.facts = facts
        self.json = json.dumps(facts, separators=(",", ":")).replace("\x7f", "\\u007f").encode()
        self.parsed = parsed  # False: the rate of parsing left it out


class Certificates:
    """A cache of parsed certificates, the oldest out first.

    max_entries: certificates remembered; some 2 KB each.
    max_per_second: certificates parsed per second of the frames' time, with a burst of as many.
    max_values: alternative names given of one certificate.
    max_name_bytes: a longer subject, issuer or alternative name is left out.
    """

    def __init__(
        self,
        *,
        max_entries: int = DEFAULTS.max_certificates,
        max_per_second: int = DEFAULTS.certificates_per_s,
        max_values: int = DEFAULTS.max_values,
        max_name_bytes: int = DEFAULTS.max_name_bytes,
    ) -> None:
        self.configure(max_entries, max_per_second, max_values, max_name_bytes)
        self._known: dict[bytes, ServerCertificate] = {}
        self._credit = float(max_per_second)  # certificates that may be parsed now
        self._credit_ns = 0
        self._parsed = self._cached = self._failed = self._skipped = self._cut = 0

    def configure(self, max_entries: int, max_per_second: int, max_values: int, max_name_bytes: int) -> None:
        """Apply other limits from now on; what is known stays."""
        self._max_entries = max_entries
        self._max_per_second = max_per_second
        self._max_values = max_values
        self._max_name_bytes = max_name_bytes

    def counts(self) -> dict[str, int]:
        """Return {counter: its value so far}."""
        return {
            "certificates_parsed": self._parsed,
            "certificates_cached": self._cached,
            "certificates_failed": self._failed,
            "certificates_skipped": self._skipped,
            "certificate_values_cut": self._cut,
        }

    def look_up(self, der: bytes, ts_ns: int) -> ServerCertificate:
        """Return the event fields of a certificate that was seen at `ts_ns`; callers share the result."""
        digest = sha256(der).digest()
        known = self._known.get(digest)
        if known is not None:
            self._cached += 1
            return known
        facts: Facts = {"hash": {"sha256": digest.hex().upper()}}
        if not self._may_parse(ts_ns):
            self._skipped += 1
            return ServerCertificate(facts, False)
        if self._parse(der, facts):
            self._parsed += 1
        else:
            self._failed += 1
        while len(self._known) >= self._max_entries:
            del self._known[next(iter(self._known))]
        known = self._known[digest] = ServerCertificate(facts, True)
        return known

    def _may_parse(self, ts_ns: int) -> bool:
        if ts_ns > self._credit_ns:
            earned = (ts_ns - self._credit_ns) * 1e-9 * self._max_per_second
            self._credit = min(self._credit + earned, float(self._max_per_second))
            self._credit_ns = ts_ns
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def _parse(self, der: bytes, facts: Facts) -> bool:
        """Add what the certificate says; each part by itself, so that one bad part costs only itself."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of certificates that break a rule, and are readable all the same
                certificate = x509.load_der_x509_certificate(der)
                self._add_dates(certificate, facts)
                self._add_name("subject", certificate.subject, facts)
                self._add_name("issuer", certificate.issuer, facts)
                self._add_alternative_names(certificate, facts)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException:  # a panic of Rust code is no Exception
            return False
        return True

    @staticmethod
    def _add_dates(certificate: x509.Certificate, facts: Facts) -> None:
        facts["not_before"] = _iso(certificate.not_valid_before_utc)
        facts["not_after"] = _iso(certificate.not_valid_after_utc)

    def _add_name(self, field: str, name: x509.Name, facts: Facts) -> None:
        text = name.rfc4514_string()
        if len(text) > self._max_name_bytes:
            self._cut += 1
        elif text:
            facts[field] = text

    def _add_alternative_names(self, certificate: x509.Certificate, facts: Facts) -> None:
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (x509.ExtensionNotFound, ValueError):
            return  # not there, or an extension that is no valid one
        names: list[str] = []
        for each in extension.value:
            if isinstance(each, x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier | x509.IPAddress):
                text = str(each.value)
                if len(text) <= self._max_name_bytes and len(names) < self._max_values:
                    names.append(text)
                else:
                    self._cut += 1
        if names:
            facts["x509"] = {"alternative_names": names}


def _iso(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
