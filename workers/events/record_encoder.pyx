# cython: language_level=3
"""RecordEncoder: appends the events of one kind of record to an EventBody.

It writes what events of all datasets have: times, dataset, id, observer and endpoints. A protocol's encoder derives from it,
and writes the rest.

Length proof: begin() writes less than COMMON_BYTES and the text of prepare(); an encoder asks for room for both.
"""
import json

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from appliance.wire.flow_key cimport HashKey, siphash
from workers.core.counters cimport Tally
from workers.core.flow cimport Flow
from workers.events.endpoints_json cimport parties, put_parties
from workers.events.event_body cimport TIME_BYTES, EventBody
from workers.events.json_text cimport put, put_bytes, put_hex, put_number

from appliance.stats.names import DATASETS, TOPICS

cdef enum:
    SALT_SHIFT = 56             # bits of an id's seed; below them is the index of the record


cdef class RecordEncoder:
    """The encoder of one kind of record of a dataset.

    observer: name of this sensor. interfaces: names by capture index. dataset: its name in DATASETS. categories, types:
    event.category and event.type of all its events. protocol: network.protocol, where write() gives no other.
    """

    def __init__(self, EventBody body not None, str observer not None, interfaces, str dataset not None, *,
                 categories, types, protocol):
        self.body = body
        self.dataset = dataset
        self.topic = TOPICS.index(DATASETS[dataset][0])
        self.salt = <uint64_t>list(DATASETS).index(dataset) << SALT_SHIFT
        kind = {"kind": "event", "category": categories, "type": types, "dataset": f"appliance.{dataset}"}
        self.kind = json.dumps(kind, separators=(",", ":")).encode()[1:-1]
        self.protocol = protocol.encode()
        self.observers = [b'"observer":{"name":%b,"ingress":{"interface":{"name":%b}}},' % (
            json.dumps(observer).encode(), json.dumps(name).encode()) for name in interfaces]

    cdef int write(self, record, Tally tally) except -1:
        """Append the event of a finished record."""
        raise NotImplementedError

    cdef int omit(self, record, Tally tally) except -1:
        """Count what write() counts beside the event. The event is of a dataset that is off."""
        return 0

    cdef bint refuses(self, int topic, record, Flow flow, Tally tally) except -1:
        """Return whether the connection has more than its share of the backlog, which leaves its event out: counted here.

        topic: its place in the dataset.
        """
        if not self.body.share.refuses(&flow.taken, self.body.size):
            return False
        tally.made[self.topic + topic] += 1
        tally.over_share[self.topic + topic] += 1
        self.omit(record, tally)
        return True

    cdef size_t prepare(self, Flow flow) except 0:
        """Render the text that all events of a connection share; return the most bytes that begin() writes."""
        if flow.json is None:
            flow.json = parties(flow, <bytes>self.observers[flow.capture])
        return COMMON_BYTES + PyBytes_GET_SIZE(flow.json)

    cdef uint8_t* begin(self, uint8_t* out, Flow flow, bytes protocol, uint64_t first_ns, uint64_t end_ns,
                        uint64_t index, const char* outcome) noexcept:
        """Write everything up to the endpoints, with a comma behind. Times are in ns.

        index: of the record among those of its dataset and connection that began at first_ns. outcome: NULL for none.
        """
        cdef const uint8_t* stamp
        cdef uint64_t[3] seed
        cdef size_t seed_size = 16
        cdef HashKey key
        out = put(out, b'{"@timestamp":"')
        stamp = out
        out = self.body.time(out, first_ns)
        out = put_bytes(put(out, b'","ecs":{"version":"8.11.0"},"event":{'), self.kind)
        out = put(out, b',"id":"')
        key.k0 = flow.identity[0]
        key.k1 = flow.identity[1]
        seed[0] = first_ns
        seed[1] = self.salt | index << 1
        if flow.turns or flow.again:
            seed[2] = <uint64_t>flow.turns << 32 | flow.again
            seed_size = sizeof(seed)
        for _ in range(2):
            out = put_hex(out, siphash(&key, seed, seed_size, 2, 4))
            seed[1] |= 1
        out = put(out, b'","start":"')
        memcpy(out, stamp, TIME_BYTES)          # the same time again
        out += TIME_BYTES
        out = put(out, b'","end":"')
        out = self.body.time(out, end_ns)
        out = put(out, b'","duration":')
        out = put_number(out, end_ns - first_ns if end_ns > first_ns else 0)
        if outcome != NULL:
            out = put(put(put(out, b',"outcome":"'), outcome), b'"')
        out = put(out, b"},")
        return put_parties(out, flow, protocol)

    cdef int finish(self, int topic, uint8_t* out, Flow flow, Tally tally) except -1:
        """Take the event that was written at room(), up to `out`. topic: its place in the dataset."""
        self.body.append(self.topic + topic, out, &flow.taken)
        tally.made[self.topic + topic] += 1
        return 0


cdef uint8_t* put_capture(uint8_t* out, Flow flow):
    """Write the fields of `appliance` about the capture of a connection: midstream and sampling."""
    out = put(out, b'"midstream":true' if flow.midstream else b'"midstream":false')
    if flow.shed:
        out = put_bytes(out, b',"sampling":%b' % json.dumps((256 - flow.shed) / 256).encode())
    return out


cdef class Omitting(RecordEncoder):
    """Stands for the encoder of a dataset that is off: it writes no event."""

    def __init__(self, RecordEncoder encoder not None):
        self.encoder = encoder
        self.dataset = encoder.dataset

    cdef int write(self, record, Tally tally) except -1:
        return self.encoder.omit(record, tally)


def chosen(encoders not None, datasets):
    """Return {type of record: encoder} in which only those of the named datasets write events."""
    return {record: encoder if encoder.dataset in datasets else Omitting(encoder) for record, encoder in encoders.items()}
