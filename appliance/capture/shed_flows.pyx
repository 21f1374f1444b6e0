# cython: language_level=3
"""ShedSet: the flows that an overloaded capture sheds, from their first frame to their last.

Only a SYN makes a flow a member. A flow unknown to the set began before shedding, so the capture follows it: no
followed connection loses a frame, whatever the share of shed flows. Every SYN decides anew, because it may open another
connection on the same ports.

The set is a bounded table of eight bytes per flow, eight flows to a cache line: one lookup reads one line. In a full
line ended or timed-out members are evicted first, then members that sent only SYNs, then the one that was quiet
longest. A flood of SYNs thus evicts only its own members. The rest of an evicted flow is a mid-stream connection, and
counts as evicted. Two flows have the same tag with a chance of about one in 10**14 a pair; the hash is keyed, so that
an attacker cannot search for such a pair.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from appliance.native.zeroed cimport free_pages, zeroed_pages

cdef enum Stage:                # of a member: its lowest two bits
    EMPTY
    BEGUN                       # it has sent SYNs
    GOING
    ENDING                      # a FIN or RST was seen: the rest comes soon

cdef enum:
    TICK = 27                   # bits of the nanoseconds: a tick is 134 ms
    CLOCK = 0x3fffffff          # ticks of a mark: four years
    LINGER = 37                 # ticks: 5 s, after which late frames of a flow that has ended are no more
    MOST_FLOWS = 1 << 26


cdef class ShedSet:
    """Make an empty set.

    max_flows: members, rounded up to a power of two. timeout_ns: a flow that is quiet for this long leaves the set.
    answers: a SYN-ACK begins a flow too; for the two halves of a TAP, because one of them has no SYN. Otherwise it would
    cut off connections after their SYN passed.
    """

    def __init__(self, uint64_t max_flows, uint64_t timeout_ns, bint answers=False):
        if not 1 <= max_flows <= MOST_FLOWS:
            raise ValueError(f"max_flows: 1 to {MOST_FLOWS}, not {max_flows}")
        self.buckets = 0
        while (self.buckets + 1) * WAYS < max_flows:
            self.buckets = 2 * self.buckets + 1
        self.timeout = max(timeout_ns >> TICK, 1)
        self.answers = answers

    def __dealloc__(self):
        free_pages(self.members, (<size_t>self.buckets + 1) * WAYS, sizeof(Member))

    cdef bint begins(self, uint8_t flags) noexcept nogil:
        """Return whether this is the first frame of a flow."""
        return flags & (SYN | RST | FIN) == SYN and (self.answers or not flags & ACK)

    cdef bint holds(self, uint64_t hash, uint64_t ts_ns, uint8_t flags, bint below) except -1:
        """Add a frame by its flow hash and TCP flags; return whether its flow is shed.

        below: the flow lies in the share that is shed now, so it becomes a member if it begins.
        """
        cdef Member* member
        cdef uint32_t stage
        if self.members == NULL:                    # memory that is not touched costs nothing
            self.members = <Member*>zeroed_pages((<size_t>self.buckets + 1) * WAYS, sizeof(Member))
            if self.members == NULL:
                raise MemoryError
        self.now = max(self.now, ts_ns >> TICK)
        member = self.find(hash)
        if self.begins(flags):
            if not below:
                if member != NULL:
                    member.mark = EMPTY
                return False
            if member == NULL:
                member = self.room(hash)
                self.flows += 1
            elif member.mark & 3 == ENDING:
                self.flows += 1
            stage = BEGUN
        elif member == NULL:
            return False
        else:
            stage = ENDING if member.mark & 3 == ENDING or flags & (FIN | RST) else GOING
        member.tag = <uint32_t>(hash >> 32)
        member.mark = <uint32_t>(self.now & CLOCK) << 2 | stage
        return True

    cdef Member* find(self, uint64_t hash) noexcept nogil:
        """Return the member with this hash that has not timed out, or NULL."""
        cdef Member* member = &self.members[(hash & self.buckets) * WAYS]
        cdef uint32_t tag = <uint32_t>(hash >> 32)
        cdef uint64_t age
        cdef int _
        for _ in range(WAYS):
            if member.tag == tag and member.mark & 3 != EMPTY:
                age = (self.now - (member.mark >> 2)) & CLOCK
                return NULL if age > (min(LINGER, self.timeout) if member.mark & 3 == ENDING else self.timeout) else member
            member += 1
        return NULL

    cdef Member* room(self, uint64_t hash) noexcept nogil:
        """Return a place for a new member: an empty one, or that of an evicted member."""
        cdef Member* member = &self.members[(hash & self.buckets) * WAYS]
        cdef Member* chosen = member
        cdef uint64_t age, rank, best = 0
        cdef uint32_t stage
        cdef int _
        for _ in range(WAYS):
            stage = member.mark & 3
            age = (self.now - (member.mark >> 2)) & CLOCK
            if stage == EMPTY or member.tag == <uint32_t>(hash >> 32):      # the latter has timed out: find() did not see it
                return member
            rank = age + 1
            if age > (min(LINGER, self.timeout) if stage == ENDING else self.timeout):
                rank += <uint64_t>4 << 32
            elif stage == ENDING:
                rank += <uint64_t>2 << 32
            elif stage == BEGUN:
                rank += <uint64_t>1 << 32
            if rank > best:
                best = rank
                chosen = member
            member += 1
        self.evicted += best < <uint64_t>2 << 32        # evicting an ended flow loses no frames of it
        return chosen

    def push(self, uint64_t hash, uint64_t ts_ns, uint8_t flags, bint below):
        """Add a frame from Python, as holds(): for tests."""
        return bool(self.holds(hash, ts_ns, flags, below))

    def counts(self):
        """Return the counters so far, by the slot names of a capture's stats page."""
        return {"shed_flows": self.flows, "shed_evicted": self.evicted}
