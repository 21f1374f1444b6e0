# cython: language_level=3
"""Defragmenter: fragments of IPv4 and IPv6 datagrams in, whole datagrams out.

It runs before the sharder, because later fragments have no ports: only the whole datagram says which flow it is of.
Time is the time stamp of the frames and never goes back. Every fragment ends in exactly one Outcome; given =
sum(outcomes) + held, always.

Fragments that contradict each other:
  IPv4  The first copy of a byte wins. A fragment that brings another value for it is a conflict: counted, and the datagram
        is ambiguous. So it is when a fragment denies where the datagram ends; that fragment is left out as `inconsistent`.
  IPv6  An overlap that is not an exact copy discards the datagram (RFC 5722, RFC 8200 section 4.5), and so does a fragment
        that denies its end. The key is remembered until the datagram would have timed out, so that what still comes of it
        does not begin another one.
A complete datagram is remembered for LATE_NS: a copy of one of its fragments (a mirror port that sends both ways) would
otherwise wait for the others and might meet those of another datagram with the same id (RFC 4963).

Limits: datagrams and bytes held (what is complete goes first, then the oldest), time, pieces of a datagram. Memory grows
with the bytes that came, not with the offsets they claim. Each fragment costs one hash, one copy, and at most one
comparison of its bytes; the pieces it makes are never more than two per fragment of its datagram.
Sources: RFC 791 section 3.2, RFC 815, RFC 8200 section 4.5, RFC 5722, RFC 6946.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from appliance.native.zeroed cimport free_pages, zeroed_pages
from appliance.wire.ip_datagram cimport (
    COMPLETE, DISCARDED, FREE, MAX_WHOLE, WAITING, Datagram, Piece, denies_end, differs, fill, first_piece, repeats,
    same_piece, write_whole,
)
from appliance.wire.flow_key cimport hash_key, siphash
from appliance.wire.ip_fragment cimport (
    EVICTED, GOOD, INCONSISTENT, MAX_LENGTH, MERGED, OUTCOMES_END, OVERLAPPING, TIMEOUT, TOO_LONG, TOO_MANY, Fragment, Key,
    Outcome, read_fragment,
)
from appliance.wire.location cimport FRAGMENT, Location, Settings
from appliance.wire.tcp_locator cimport locate_datagram

from appliance.stats.names import FRAGMENT_OUTCOMES

cdef enum:
    MAX_FRAGMENTS = 1024            # of one datagram; at the smallest link MTU of IPv4, 68 bytes, they are 1366
    MAX_DATAGRAMS = 1 << 24
    LEAST_BYTES = 1 << 17           # the least max_bytes: room for the longest datagram with all its pieces
    LATE_NS = 1000000000


cdef class Defragmenter:
    """Reassembles the fragments of one source.

    key: 16 secret bytes, for the hash of the table. max_datagrams: how many are held, those remembered included; max_bytes:
    memory for what they carry; timeout_ns: how long the rest of a datagram is waited for.
    """

    def __cinit__(self, bytes key not None, int64_t max_datagrams, int64_t max_bytes, int64_t timeout_ns):
        cdef uint32_t buckets = 16
        if not 1 <= max_datagrams <= MAX_DATAGRAMS:
            raise ValueError(f"max_datagrams: 1 to {MAX_DATAGRAMS}, not {max_datagrams}")
        if max_bytes < LEAST_BYTES:
            raise ValueError(f"max_bytes: at least {LEAST_BYTES}, not {max_bytes}")
        if timeout_ns < 1:
            raise ValueError(f"timeout_ns: at least 1, not {timeout_ns}")
        self.hash_key = hash_key(key)
        self.max_datagrams = <uint32_t>max_datagrams
        self.max_bytes = max_bytes
        self.timeout_ns = timeout_ns
        self.late_ns = min(timeout_ns, <int64_t>LATE_NS)
        while buckets < self.max_datagrams:
            buckets *= 2
        self.bucket_mask = buckets - 1
        self.fresh = 1
        # It comes from the kernel page by page: a source without fragments pays for none of it.
        self.datagrams = <Datagram*>zeroed_pages(<size_t>max_datagrams + 1, sizeof(Datagram))
        self.buckets = <uint32_t*>zeroed_pages(buckets, sizeof(uint32_t))
        self.out = <uint8_t*>malloc(MAX_WHOLE)
        if self.datagrams == NULL or self.buckets == NULL or self.out == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t number
        if self.datagrams != NULL:
            for number in range(1, self.fresh):
                self.give_back(&self.datagrams[number])
        free_pages(self.datagrams, <size_t>self.max_datagrams + 1, sizeof(Datagram))
        free_pages(self.buckets, <size_t>self.bucket_mask + 1, sizeof(uint32_t))
        free(self.out)

    cdef int add(self, const uint8_t* frame, uint32_t caplen, const Location* place, uint64_t ts_ns, bint ambiguous,
                 Whole* whole) except -1:
        """Add a fragment that locate found at place; return True if it completes a datagram, then in `whole`.

        caplen bytes of frame are readable. frame may be the datagram of the last call, so every byte is copied before
        the next datagram is assembled. ambiguous: the fragment itself came out of an ambiguous datagram.
        """
        cdef Fragment fragment
        cdef Outcome outcome = read_fragment(frame, caplen, place, &fragment)
        cdef Datagram* datagram
        cdef uint32_t bucket, number
        self.expire(ts_ns)
        if outcome != GOOD:
            self.outcomes[<int>outcome] += 1
            return False
        number = self.find(&fragment.key, &bucket)
        datagram = &self.datagrams[number]
        if number and datagram.state == COMPLETE:
            if repeats(datagram, &fragment):
                self.outcomes[<int>MERGED] += 1
                return False
            self.close(number, MERGED)
            number = 0
        if number == 0:
            datagram = &self.datagrams[self.open(&fragment.key, bucket)]
        if datagram.state == DISCARDED:
            self.outcomes[datagram.reason] += 1
            return False
        datagram.fragments += 1
        datagram.ambiguous |= ambiguous
        self.held += 1
        if not self.insert(datagram, &fragment) or datagram.covered != datagram.end:
            return False
        self.assemble(datagram, whole)
        return True

    cdef int insert(self, Datagram* datagram, const Fragment* fragment) except -1:
        """Insert the new bytes of a fragment, already counted as held; return False if it or the datagram was
        dropped.
        """
        cdef uint32_t new = fragment.end - fragment.start, longest = fragment.end, at = fragment.start, holes = 0, place, after
        cdef bint v6 = fragment.key.family == 6, first = fragment.start == 0 and datagram.head_length == 0
        cdef bint conflict = False
        cdef Piece* piece
        if datagram.fragments > MAX_FRAGMENTS:
            self.discard(datagram, TOO_MANY)
            return False
        if denies_end(datagram, fragment):
            if v6:
                self.discard(datagram, INCONSISTENT)
            else:
                datagram.ambiguous = True
                datagram.fragments -= 1
                self.held -= 1
                self.outcomes[<int>INCONSISTENT] += 1
            return False
        if datagram.count:
            longest = max(longest, datagram.pieces[datagram.count - 1].end)
        if longest + max(datagram.head_length, fragment.head_length if first else 0) > (MAX_WHOLE if v6 else MAX_LENGTH):
            self.discard(datagram, TOO_LONG)        # the first fragment may have a longer head than the others
            return False
        place = after = first_piece(datagram, fragment.start)
        while after < datagram.count and datagram.pieces[after].start < fragment.end:
            piece = &datagram.pieces[after]
            if v6 and not same_piece(datagram, piece, fragment):
                self.discard(datagram, OVERLAPPING)
                return False
            if differs(datagram, piece, fragment):
                conflict = True
            new -= min(piece.end, fragment.end) - max(piece.start, fragment.start)
            holes += piece.start > at
            at = piece.end
            after += 1
        holes += at < fragment.end
        if conflict:
            datagram.ambiguous = True
            self.conflicts += 1
        if not self.grow(datagram, datagram.used + new + (fragment.head_length if first else 0),
                         datagram.count + holes):
            return False
        if first:
            datagram.head_at = datagram.used
            datagram.head_length = fragment.head_length
            datagram.proto = fragment.proto
            memcpy(datagram.buffer + datagram.used, fragment.head, fragment.head_length)
            if v6:
                datagram.buffer[datagram.used + fragment.next_at] = fragment.proto
            datagram.used += fragment.head_length
        fill(datagram, place, fragment)
        if not fragment.more:
            datagram.end = fragment.end
        return True

    cdef void assemble(self, Datagram* datagram, Whole* whole) noexcept nogil:
        """Assemble a datagram. Every byte is there, so the first fragment is, and with it the head."""
        cdef uint32_t number = <uint32_t>(datagram - self.datagrams)
        whole.data = self.out
        whole.length = write_whole(datagram, self.out)
        whole.ambiguous = datagram.ambiguous
        self.outcomes[<int>MERGED] += datagram.fragments
        self.held -= datagram.fragments
        datagram.fragments = 0
        unlink(self.datagrams, &self.waiting, number)
        datagram.state = COMPLETE
        datagram.since_ns = self.now_ns
        append(self.datagrams, &self.complete, number)

    # -- the table ---------------------------------------------------------------------------------------------------

    cdef uint32_t find(self, const Key* key, uint32_t* bucket) noexcept nogil:
        """Return the number of the key's datagram, 0 if there is none, and the bucket it belongs to."""
        cdef uint32_t number
        bucket[0] = <uint32_t>siphash(&self.hash_key, key, sizeof(Key), 1, 3) & self.bucket_mask
        number = self.buckets[bucket[0]]
        while number and memcmp(&self.datagrams[number].key, key, sizeof(Key)) != 0:
            number = self.datagrams[number].chain
        return number

    cdef uint32_t open(self, const Key* key, uint32_t bucket) noexcept nogil:
        """Open a new datagram."""
        cdef uint32_t number
        cdef Datagram* datagram
        if self.used == self.max_datagrams:
            self.evict()
        if self.free:
            number = self.free
            self.free = self.datagrams[number].chain
        else:
            number = self.fresh
            self.fresh += 1
        datagram = &self.datagrams[number]
        memset(datagram, 0, sizeof(Datagram))
        datagram.key = key[0]
        datagram.state = WAITING
        datagram.since_ns = self.now_ns
        datagram.chain = self.buckets[bucket]
        self.buckets[bucket] = number
        self.used += 1
        append(self.datagrams, &self.waiting, number)
        return number

    cdef void close(self, uint32_t number, Outcome outcome) noexcept nogil:
        """Remove a datagram; its fragments without an outcome get this one."""
        cdef Datagram* datagram = &self.datagrams[number]
        cdef uint32_t bucket = <uint32_t>siphash(&self.hash_key, &datagram.key, sizeof(Key), 1, 3) & self.bucket_mask
        cdef uint32_t* link = &self.buckets[bucket]
        while link[0] != number:
            link = &self.datagrams[link[0]].chain
        link[0] = datagram.chain
        unlink(self.datagrams, &self.complete if datagram.state == COMPLETE else &self.waiting, number)
        self.outcomes[<int>outcome] += datagram.fragments
        self.held -= datagram.fragments
        self.give_back(datagram)
        datagram.state = FREE
        datagram.chain = self.free
        self.free = number
        self.used -= 1

    cdef void discard(self, Datagram* datagram, Outcome reason) noexcept nogil:
        """Discard a datagram, and remember its key."""
        self.outcomes[<int>reason] += datagram.fragments
        self.held -= datagram.fragments
        datagram.fragments = 0
        self.give_back(datagram)
        datagram.state = DISCARDED
        datagram.reason = <uint8_t>reason

    cdef bint evict(self) noexcept nogil:
        """Evict the oldest complete datagram, or else the oldest; return False if there is none."""
        cdef uint32_t number = self.complete.oldest or self.waiting.oldest
        if number:
            self.close(number, EVICTED)
        return number != 0

    cdef void expire(self, uint64_t ts_ns) noexcept nogil:
        """Advance the clock to ts_ns, unless it is later already, and remove datagrams that timed out."""
        self.now_ns = max(self.now_ns, ts_ns)
        while self.waiting.oldest and self.now_ns - self.datagrams[self.waiting.oldest].since_ns >= self.timeout_ns:
            self.close(self.waiting.oldest, TIMEOUT)
        while self.complete.oldest and self.now_ns - self.datagrams[self.complete.oldest].since_ns >= self.late_ns:
            self.close(self.complete.oldest, MERGED)

    cdef void settle(self) noexcept nogil:
        """Time out every datagram, at the end of the source."""
        while self.waiting.oldest:
            self.close(self.waiting.oldest, TIMEOUT)
        while self.complete.oldest:
            self.close(self.complete.oldest, MERGED)

    # -- memory ------------------------------------------------------------------------------------------------------

    cdef int grow(self, Datagram* datagram, uint32_t bytes, uint32_t pieces) except -1:
        """Make room for more bytes and pieces; return False if the datagram itself was evicted as the oldest."""
        cdef uint32_t capacity = datagram.capacity, room = datagram.room
        cdef uint64_t more
        cdef void* memory
        if bytes > capacity:
            capacity = (max(bytes, min(2 * capacity, <uint32_t>MAX_LENGTH)) + 63) & ~<uint32_t>63
        if pieces > room:
            room = max(pieces, 2 * room)
        more = capacity - datagram.capacity + (room - datagram.room) * <uint64_t>sizeof(Piece)
        while self.bytes + more > self.max_bytes:
            if not self.evict() or datagram.state == FREE:
                return False
        if capacity != datagram.capacity:
            memory = realloc(datagram.buffer, capacity)
            if memory == NULL:
                raise MemoryError
            datagram.buffer = <uint8_t*>memory
            self.bytes += capacity - datagram.capacity
            datagram.capacity = capacity
        if room != datagram.room:
            memory = realloc(datagram.pieces, room * sizeof(Piece))
            if memory == NULL:
                raise MemoryError
            datagram.pieces = <Piece*>memory
            self.bytes += (room - datagram.room) * sizeof(Piece)
            datagram.room = room
        return True

    cdef void give_back(self, Datagram* datagram) noexcept nogil:
        free(datagram.buffer)
        free(datagram.pieces)
        self.bytes -= datagram.capacity + datagram.room * <uint64_t>sizeof(Piece)
        datagram.buffer = NULL
        datagram.pieces = NULL
        datagram.capacity = datagram.room = 0
        datagram.used = datagram.count = datagram.covered = 0

    # -- Python ------------------------------------------------------------------------------------------------------

    def push(self, bytes fragment not None, uint64_t ts_ns, uint64_t vlans=0):
        """Add one fragment, from its IP header on; return (datagram, ambiguous) if it completes one, else None.

        Bytes missing at the fragment's end are missing in the result. Raises ValueError if it is no fragment of an IP
        datagram.
        """
        cdef const uint8_t* frame = fragment
        cdef Settings settings
        cdef Location place
        cdef Whole whole
        memset(&settings, 0, sizeof(Settings))
        place.vlans = vlans
        if locate_datagram(&settings, frame, <uint32_t>len(fragment), 0, &place) != FRAGMENT:
            raise ValueError("the bytes are no fragment of an IP datagram")
        if not self.add(frame, <uint32_t>len(fragment), &place, ts_ns, False, &whole):
            return None
        return whole.data[:whole.length], bool(whole.ambiguous)

    def end(self):
        """Time out all held fragments, at the end of the source."""
        self.settle()

    def counts(self):
        """Return the counters so far, by the slot names of a capture's stats page."""
        counts = {f"fragments.{name}": self.outcomes[place] for place, name in enumerate(FRAGMENT_OUTCOMES[:OUTCOMES_END])}
        counts["fragments.held"] = self.held
        counts["fragment_conflicts"] = self.conflicts
        return counts

    @property
    def datagrams_held(self):
        """Return how many datagrams it holds or remembers."""
        return self.used

    @property
    def bytes_held(self):
        """Return their bytes of memory, without the table."""
        return self.bytes


cdef void append(Datagram* datagrams, Age* age, uint32_t number) noexcept nogil:
    """Append a datagram as the youngest."""
    datagrams[number].older = age.youngest
    datagrams[number].younger = 0
    if age.youngest:
        datagrams[age.youngest].younger = number
    else:
        age.oldest = number
    age.youngest = number


cdef void unlink(Datagram* datagrams, Age* age, uint32_t number) noexcept nogil:
    cdef Datagram* datagram = &datagrams[number]
    if datagram.older:
        datagrams[datagram.older].younger = datagram.younger
    else:
        age.oldest = datagram.younger
    if datagram.younger:
        datagrams[datagram.younger].older = datagram.older
    else:
        age.youngest = datagram.older
