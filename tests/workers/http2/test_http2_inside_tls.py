"""HTTP/2 and gRPC inside TLS that is opened with its secrets."""

from __future__ import annotations

import pytest
from builders import MILLISECOND, Conversation, Outcome, batches_of, collect, config, differences, with_flows
from h2_talk import START, answer, ask, message
from h2_wire import settings
from tls_bytes import CLIENT, SERVER
from tls_writer import Session13

from appliance.keylog.parser import KeyLogParser
from appliance.keylog.secrets import packed
from workers.pipeline import Pipeline

KIND = (b"content-type", b"application/grpc")
CALL = ask(b"/pkg.Service/Method", KIND, (b"te", b"trailers"), method=b"POST")


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("size", [16384, 11], ids=["whole records", "records of eleven bytes"])
@pytest.mark.parametrize("protocol", [b"h2", b""], ids=["named by ALPN", "not named"])
def test_a_call_and_a_request_across_key_updates(protocol, size, when):
    session = Session13(protocol)
    session.says(CLIENT, START, size).says(SERVER, settings(), size)
    session.says(CLIENT, message(1, CALL, b"\0\0\0\0\3abc"), size).update(CLIENT).update(SERVER)
    session.says(SERVER, message(1, answer(b"200", KIND), b"\0\0\0\0\2ok", [(b"grpc-status", b"5")]), size)
    session.says(CLIENT, message(3, ask(b"/page")), size).says(SERVER, message(3, answer(b"404"), b"none"), size)
    made = Conversation().handshake()
    for side, data in session.turns:
        (made.client_sends if side == CLIENT else made.server_sends)(data)
        made.idle(MILLISECOND)
    (messages,), capture = batches_of(made.close("client").frames)
    outcome, pipeline = Outcome(capture=capture), Pipeline(with_flows(config(tls={"keylog": "keys.log"})))
    secrets = b"".join(packed(secret) for secret in KeyLogParser().feed(session.keylog))
    if when == "before":
        pipeline.add_keys(secrets)
    for batch in messages:
        pipeline.feed(batch)
    if when == "behind":
        pipeline.add_keys(secrets)
    outcome.running.update(pipeline.counts())
    pipeline.finish()
    outcome.counts.update(pipeline.counts())
    collect(pipeline, outcome)
    assert differences(outcome) == {}
    call, page = [event for event in outcome.events if event["event"]["dataset"] == "appliance.http"]
    assert (call["rpc"]["service"], call["rpc"]["method"]) == ("pkg.Service", "Method")
    assert call["rpc"]["response"]["status_code"] == "NOT_FOUND"
    assert (page["url"]["path"], page["http"]["response"]["status_code"]) == ("/page", 404)
