# cython: language_level=3
"""Save and load the header tables and the framing of an HTTP/2 connection, so that another process can take it over.

Streams and their messages are not part of it. Parts that do not fit are left out: of a table its oldest entries, of a side its
framing, which is then searched for as behind a loss. The other process then knows less, and nothing wrong.

Length proof: save() writes at most TABLE_BYTES and BLOCK_BYTES a side behind the Snapshot, and four parts of these sizes and
the Snapshot fit into SNAPSHOT_BYTES. load() reads the same places; sound() has compared every length with them. A snapshot may
hold any bytes: the process that wrote it may have been hijacked.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from workers.http2.buffer cimport append
from workers.http2.connection cimport Http2Connection
from workers.http2.frame_header cimport DEFAULT_FRAME_SIZE, FRAME_HEADER, MAX_STREAM
from workers.http2.frames cimport (
    IN_BLOCK, IN_BODY, IN_FRAME, IN_HEADER, IN_PAD_LENGTH, IN_PREFACE, IN_PREFIX, IN_SMALL, MAX_SMALL, PREFACE_SIZE,
    SEARCHING, FrameReader, FrameState,
)
from workers.http2.header_list cimport TOKENS
from workers.http2.header_table cimport (
    ENTRY_OVERHEAD, INFERRED, MAX_TABLE_BYTES, NAME_UNKNOWN, VALUE_UNKNOWN, Entry, HeaderTable, entry_at,
)
from workers.http2.hpack cimport HpackDecoder

cdef enum:
    LONGEST_PREFIX = 6          # padding length, and priority or a promised stream
    LONGEST_FRAME = (1 << 24) - 1
    MOST_TENTATIVE = 6
    MOST_MISSING = 1 << 20      # requests

cdef uint64_t LARGEST = <uint64_t>1 << 62       # number that a counter can reach
cdef uint64_t LARGEST_TABLE = <uint64_t>1 << 32

if sizeof(Snapshot) + 2 * (<int>TABLE_BYTES + <int>BLOCK_BYTES) > SNAPSHOT_BYTES:
    raise ImportError("workers/http2/snapshot.pxd: a snapshot is longer than SNAPSHOT_BYTES")


cdef inline uint8_t* table_of(const Snapshot* kept, int side) noexcept:
    """Return where the entries of a side's table are."""
    return <uint8_t*>kept + sizeof(Snapshot) + side * <size_t>TABLE_BYTES


cdef inline uint8_t* block_of(const Snapshot* kept, int side) noexcept:
    """Return where the unfinished header block of a side is."""
    return <uint8_t*>kept + sizeof(Snapshot) + 2 * <size_t>TABLE_BYTES + side * <size_t>BLOCK_BYTES


cdef int save(Http2Connection connection, Snapshot* kept) noexcept:
    """Save a connection. kept: zeros, or an earlier snapshot of it. Its owner sets next_seq, known, client, last_ns, serial."""
    cdef int side
    cdef KeptSide* half
    cdef uint64_t missing = <uint64_t>connection.missing_requests + <uint64_t>len(connection.streams)
    kept.highest_request = connection.highest_request
    kept.missing_requests = <uint32_t>min(missing, <uint64_t>MOST_MISSING)
    kept.trailers_seen = connection.trailers_seen
    kept.pushes = connection.pushes
    for side in range(2):
        half = &kept.sides[side]
        half.lost = connection.lost[side]
        save_table(connection.decoder(side), &half.table, table_of(kept, side))
        if half.known:
            half.known = save_reader(connection.reader(side), &half.reader, block_of(kept, side))
    return 0


cdef inline KeptEntry* kept_entry(uint8_t* data, uint64_t place) noexcept:
    return <KeptEntry*>(data + TABLE_BYTES) - place - 1


cdef inline size_t bytes_of(const Entry* entry) noexcept:
    """Return the bytes of an entry in a snapshot."""
    return sizeof(KeptEntry) + entry.name_length + entry.value_length


cdef int append_entries(HeaderTable table, KeptTable* kept, uint8_t* data) noexcept:
    """Append the entries inserted since; return 0 if they have no room."""
    cdef uint64_t ordinal, place = kept.skipped + (kept.inserted - kept.first)
    cdef size_t end = kept.text_at + kept.text
    cdef const Entry* entry
    cdef KeptEntry* out
    for ordinal in range(kept.inserted, table.inserted):
        entry = entry_at(table, ordinal)
        if end + bytes_of(entry) + place * sizeof(KeptEntry) > TABLE_BYTES:
            return 0
        out = kept_entry(data, place)
        out.name_length = <uint16_t>entry.name_length
        out.value_length = <uint16_t>entry.value_length
        out.token = entry.token
        out.flags = entry.flags
        if entry.name_length:
            memcpy(data + end, table.data + entry.name_at, entry.name_length)
        end += entry.name_length
        if entry.value_length:
            memcpy(data + end, table.data + entry.value_at, entry.value_length)
        end += entry.value_length
        place += 1
    kept.text = <uint32_t>(end - kept.text_at)
    kept.inserted = table.inserted
    return 1


cdef int drop_entries(KeptTable* kept, uint64_t oldest, uint8_t* data) noexcept:
    """Drop the entries with an ordinal below `oldest`."""
    cdef const KeptEntry* entry
    while kept.first < oldest:
        entry = kept_entry(data, kept.skipped)
        kept.text_at += <uint32_t>entry.name_length + entry.value_length
        kept.text -= <uint32_t>entry.name_length + entry.value_length
        kept.skipped += 1
        kept.first += 1
    return 0


cdef int save_table(HpackDecoder decoder, KeptTable* kept, uint8_t* data) noexcept:
    """Save a decoder and its table. An earlier snapshot of the table gets the entries that it lacks, while they have room."""
    cdef HeaderTable table = decoder.table
    cdef uint64_t oldest = table.oldest
    cdef size_t size = 0
    if decoder.lost is not None:
        oldest = max(oldest, min(decoder.lost.border, table.inserted))      # the place of older ones is not decided
    if kept.generation == decoder.generation and kept.rewritten == table.rewritten and kept.oldest <= oldest <= kept.inserted \
            and kept.inserted <= table.inserted:
        drop_entries(kept, oldest, data)
    else:
        kept.inserted = 0               # and written as a whole
    if kept.inserted == 0 or not append_entries(table, kept, data):
        kept.first = table.inserted
        while kept.first > oldest:
            size += bytes_of(entry_at(table, kept.first - 1))
            if size > WHOLE_BYTES:
                break
            kept.first -= 1
        kept.inserted = kept.first
        kept.skipped = kept.text_at = kept.text = 0
        append_entries(table, kept, data)
    kept.oldest = oldest
    kept.generation = decoder.generation
    kept.rewritten = table.rewritten
    kept.limit = table.limit
    kept.announced = decoder.announced
    kept.unread = decoder.unread
    kept.recent_bytes = decoder.recent_bytes
    kept.recent_insertions = decoder.recent_insertions
    kept.recent_blocks = decoder.recent_blocks
    kept.longest = decoder.longest
    kept.complete = table.complete and kept.first == table.oldest
    kept.exact = decoder.exact and kept.first == table.oldest
    kept.malformed = decoder.malformed
    return 0


cdef Known save_reader(FrameReader reader, KeptReader* kept, uint8_t* out) noexcept:
    """Save a reader that has used up its input. Return what its snapshot knows."""
    cdef size_t gathered = reader.gathered.size if reader.block_stream and not reader.block_cut else 0
    cdef Known known = FRAMING
    kept.max_frame_size = reader.max_frame_size
    kept.highest = reader.highest
    kept.begun = reader.begun
    kept.joining = reader.joining
    kept.lost_bytes = 0
    if reader.state == SEARCHING or reader.replaying:
        kept.lost_bytes = reader.lost_bytes + reader.found.size + gathered
        known = LOST_FRAMING
    elif gathered > BLOCK_BYTES or reader.state == IN_FRAME:
        kept.lost_bytes = gathered + reader.header_size
        known = LOST_FRAMING
    kept.frame_ns = reader.frame_ns
    kept.block_ns = reader.block_ns
    kept.header_size = reader.header_size
    kept.stream = reader.stream
    kept.length = reader.length
    kept.remaining = reader.remaining
    kept.padding = reader.padding
    kept.wire_bytes = reader.wire_bytes
    kept.small_size = reader.small_size
    kept.block_stream = reader.block_stream
    kept.promised = reader.promised
    kept.prefix_size = reader.prefix_size
    kept.state = <uint8_t>reader.state
    kept.tentative = reader.tentative
    kept.type = reader.type
    kept.flags = reader.flags
    kept.body_inexact = reader.body_inexact
    kept.block_ends_stream = reader.block_ends_stream
    kept.block_cut = reader.block_cut
    kept.split = reader.split
    kept.too_long = reader.too_long
    memcpy(kept.header, reader.header, PREFACE_SIZE)
    if reader.state == IN_SMALL:
        memcpy(kept.small, reader.small, MAX_SMALL)
    kept.gathered = 0
    if known == FRAMING and gathered:
        memcpy(out, reader.gathered.data, gathered)
        kept.gathered = <uint32_t>gathered
    return known


cdef bint sound(const Snapshot* kept) noexcept:
    """Return whether a snapshot is one that save() can have made."""
    cdef int side
    if kept.client > 1 or kept.highest_request > MAX_STREAM or kept.missing_requests > MOST_MISSING:
        return False
    for side in range(2):
        if kept.sides[side].known > LOST_FRAMING or kept.sides[side].lost > LARGEST \
                or not sound_table(&kept.sides[side].table, table_of(kept, side)) \
                or kept.sides[side].known and not sound_reader(&kept.sides[side].reader, kept.sides[side].known):
            return False
    return True


cdef bint sound_table(const KeptTable* kept, uint8_t* data) noexcept:
    """Return whether a table can be loaded."""
    cdef const KeptEntry* entry
    cdef uint64_t entries, at, text = 0
    if kept.inserted > LARGEST or kept.first > kept.inserted or kept.oldest > kept.first or kept.unread > LARGEST \
            or kept.recent_bytes > LARGEST or kept.recent_insertions > LARGEST or kept.announced > LARGEST_TABLE \
            or kept.limit > LARGEST_TABLE or kept.complete > 1 or kept.exact > 1 or kept.malformed > 1:
        return False
    entries = kept.inserted - kept.first
    if entries > TABLE_BYTES or kept.skipped > TABLE_BYTES or kept.text > TABLE_BYTES or kept.text_at > TABLE_BYTES \
            or (kept.skipped + entries) * sizeof(KeptEntry) + kept.text_at + kept.text > TABLE_BYTES:
        return False
    for at in range(entries):
        entry = kept_entry(data, kept.skipped + at)
        text += <uint64_t>entry.name_length + entry.value_length
        if entry.token >= TOKENS or entry.flags & ~(NAME_UNKNOWN | VALUE_UNKNOWN | INFERRED):
            return False
    return text == kept.text and text + ENTRY_OVERHEAD * entries <= min(kept.limit, <uint64_t>MAX_TABLE_BYTES)


cdef bint sound_reader(const KeptReader* kept, uint8_t known) noexcept:
    """Return whether a reader can be loaded: one that save_reader() can have found."""
    cdef uint8_t state = kept.state
    if kept.max_frame_size < DEFAULT_FRAME_SIZE or kept.max_frame_size > LONGEST_FRAME or kept.highest > MAX_STREAM \
            or kept.lost_bytes > LARGEST:
        return False
    if known == LOST_FRAMING:
        return True
    if state >= SEARCHING or state == IN_FRAME or kept.tentative > MOST_TENTATIVE or kept.small_size > MAX_SMALL \
            or kept.length > LONGEST_FRAME or kept.remaining > kept.length or kept.padding > 255 \
            or kept.stream > MAX_STREAM or kept.block_stream > MAX_STREAM or kept.promised > MAX_STREAM \
            or kept.gathered > BLOCK_BYTES or kept.prefix_size > LONGEST_PREFIX:
        return False
    if kept.gathered and (not kept.block_stream or kept.block_cut):
        return False
    if state == IN_HEADER:
        return kept.header_size < FRAME_HEADER
    if state == IN_PREFACE:
        return kept.header_size < PREFACE_SIZE
    if state == IN_PREFIX:
        return kept.block_stream and kept.padding == 0 and kept.header_size <= kept.prefix_size \
            and kept.prefix_size - kept.header_size <= kept.remaining
    if state == IN_BLOCK:
        return kept.block_stream and kept.padding <= kept.remaining
    return state != IN_BODY and state != IN_PAD_LENGTH or kept.padding <= kept.remaining


cdef int load(Http2Connection connection, const Snapshot* kept) except -1:
    """Load a sound() snapshot into a connection that was joined on both sides and has read nothing yet."""
    cdef int side
    cdef const KeptSide* half
    connection.highest_request = kept.highest_request
    connection.missing_requests = max(connection.missing_requests, kept.missing_requests)
    connection.trailers_seen = kept.trailers_seen != 0
    connection.pushes = kept.pushes != 0
    for side in range(2):
        half = &kept.sides[side]
        if half.known:
            load_table(connection.decoder(side), &half.table, table_of(kept, side))
            load_reader(connection.reader(side), &half.reader, half.known, block_of(kept, side))
            connection.lost[side] = half.lost
        connection.searches[side] = connection.reader(side).searches
    return 0


cdef int load_table(HpackDecoder decoder, const KeptTable* kept, uint8_t* data) except -1:
    """Load a decoder and its table."""
    cdef HeaderTable table = decoder.table
    cdef const KeptEntry* entry
    cdef uint64_t at
    cdef const uint8_t* text = data + kept.text_at
    table.limit = kept.limit
    table.inserted = table.oldest = kept.first
    table.rewritten = kept.rewritten
    for at in range(kept.inserted - kept.first):
        entry = kept_entry(data, kept.skipped + at)
        table.insert(text, entry.name_length, text + entry.name_length, entry.value_length, entry.token, entry.flags)
        text += <size_t>entry.name_length + entry.value_length
    table.complete = kept.complete != 0
    decoder.lost = None
    decoder.behind = 0
    decoder.announced = kept.announced
    decoder.unread = kept.unread
    decoder.recent_bytes = kept.recent_bytes
    decoder.recent_insertions = kept.recent_insertions
    decoder.recent_blocks = kept.recent_blocks
    decoder.longest = kept.longest
    decoder.generation = kept.generation
    decoder.exact = kept.exact != 0
    decoder.malformed = kept.malformed != 0
    return 0


cdef int load_reader(FrameReader reader, const KeptReader* kept, uint8_t known, const uint8_t* block) except -1:
    """Load a reader that is searching: it has been joined."""
    reader.max_frame_size = kept.max_frame_size
    reader.highest = kept.highest
    reader.begun = kept.begun != 0
    reader.joining = kept.joining != 0
    if known == LOST_FRAMING or kept.gathered > reader.limit:   # another limit, since a reload
        reader.search_again(kept.lost_bytes + kept.gathered)
        return 0
    reader.state = <FrameState>kept.state
    reader.lost_bytes = 0
    reader.frame_ns = kept.frame_ns
    reader.block_ns = kept.block_ns
    reader.header_size = kept.header_size
    reader.stream = kept.stream
    reader.length = kept.length
    reader.remaining = kept.remaining
    reader.padding = kept.padding
    reader.wire_bytes = kept.wire_bytes
    reader.small_size = kept.small_size
    reader.block_stream = kept.block_stream
    reader.promised = kept.promised
    reader.prefix_size = kept.prefix_size
    reader.tentative = kept.tentative
    reader.type = kept.type
    reader.flags = kept.flags
    reader.body_inexact = kept.body_inexact != 0
    reader.block_ends_stream = kept.block_ends_stream != 0
    reader.block_cut = kept.block_cut != 0
    reader.split = kept.split != 0
    reader.too_long = kept.too_long != 0
    memcpy(reader.header, kept.header, PREFACE_SIZE)
    memcpy(reader.small, kept.small, MAX_SMALL)
    append(&reader.gathered, block, kept.gathered)
    return 0
