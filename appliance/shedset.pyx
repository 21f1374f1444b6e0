# cython: language_level=3
"""ShedSet: the flows that an overloaded capture leaves out, from their first frame to their last.

A flow becomes a member by its SYN and by nothing else: a flow of which the set knows nothing began before it was asked, and is
followed. So no connection that is followed loses a frame, whatever the share of new flows that is left out. A SYN decides
anew: it may open another connection on the same ports.

A bounded table of eight bytes per flow, eight flows to a line of the memory: one lookup reads one line. Where a line is full,
who is over or timed out goes first, then who has sent nothing but SYNs, then who was quiet longest: a flood of SYNs costs
members that are attempts like itself. The rest of a flow that had to go is picked up in the middle, and counted as evicted.
Two flows are taken for one with a chance of about one in 10**14 a pair; the hash is keyed, so that nobody can look for one.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    ACK = 0x10

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
    """max_flows: members, rounded up to a power of two. timeout_ns: who is quiet for so long is forgotten.

    answers: a SYN-ACK begins a flow too. For the two halves of a TAP, of which one shows no SYN; otherwise it would cut off
    connections whose SYN was followed.
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
        free(self.members)

    cdef bint begins(self, uint8_t flags) noexcept nogil:
        """Is this the first frame of a flow?"""
        return flags & (SYN | RST | FIN) == SYN and (self.answers or not flags & ACK)

    cdef bint holds(self, uint64_t hash, uint64_t ts_ns, uint8_t flags, bint below) except -1:
        """Takes a frame by its flow hash and TCP flags: is its flow left out?

        below: the flow lies in the share that is left out now, so that it becomes a member if it begins.
        """
        cdef Member* member
        cdef uint32_t stage
        if self.members == NULL:                    # memory that is not touched costs nothing
            self.members = <Member*>calloc((self.buckets + 1) * WAYS, sizeof(Member))
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
        """The member with this hash, NULL if there is none that has not timed out."""
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
        """A place for a new member: an empty one, or that of whoever has to go."""
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
        self.evicted += best < <uint64_t>2 << 32        # who was over is no loss
        return chosen

    def push(self, uint64_t hash, uint64_t ts_ns, uint8_t flags, bint below):
        """Takes a frame from Python, as holds(): for tests."""
        return bool(self.holds(hash, ts_ns, flags, below))

    def counts(self):
        """Counters so far, by the slot names of a capture's stats page."""
        return {"shed_flows": self.flows, "shed_evicted": self.evicted}
