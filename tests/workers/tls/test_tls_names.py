"""The names of numbers, beside the tables of OpenSSL and Wireshark."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from eventually import PATIENCE_S

from workers.tls import iana


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout.splitlines()


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_suites_as_openssl_names_them():
    rows = [line.split() for line in said("openssl", "ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL:@SECLEVEL=0")]
    known = {int(row[0].replace(",0x", ""), 16): row[2] for row in rows}
    assert len(known) > 50
    assert {code: iana.cipher(code) for code in known} == known


@pytest.fixture(scope="module")
def wireshark():
    """{field: {number: name}} of tshark."""
    if shutil.which("tshark") is None:
        pytest.skip("no tshark here")
    tables = {}
    for line in said("tshark", "-G", "values"):
        parts = line.split("\t")
        if parts[0] == "V" and parts[1].startswith("tls."):
            tables.setdefault(parts[1], {})[int(parts[2], 0)] = parts[3]
    return tables


@pytest.mark.peer
def test_suites_as_wireshark_names_them(wireshark):
    theirs = wireshark["tls.handshake.ciphersuite"]
    newer = {code for code in iana.CIPHERS if code not in theirs}
    assert {code: name for code, name in iana.CIPHERS.items() if code not in newer} == {
        code: theirs[code] for code in iana.CIPHERS if code not in newer
    }
    assert newer <= {0x1306, 0x1307}


@pytest.mark.peer
def test_groups_as_wireshark_names_them(wireshark):
    theirs = wireshark["tls.handshake.extensions_supported_group"]
    reused = range(0x0200, 0x0203)  # by IANA: experiments had them before
    common = [code for code in iana.GROUPS if code in theirs and code not in reused]
    assert len(common) > 30
    assert {code: iana.GROUPS[code] for code in common} == {code: theirs[code] for code in common}


@pytest.mark.peer
def test_alerts_as_wireshark_names_them(wireshark):
    theirs = {code: name.lower().replace(" ", "_") for code, name in wireshark["tls.alert_message.desc"].items()}
    del theirs[1]  # a draft's
    assert {code: iana.alert(code) for code in theirs} == theirs


def test_suites_with_a_named_curve():
    assert {0xC02F, 0xC02B, 0xC018} <= iana.ECDHE
    assert not {0x009E, 0xC035, 0x1301, 0x002F} & iana.ECDHE
