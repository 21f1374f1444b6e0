/* Puts the frames of a capture file on an interface from memory, at a commanded rate.

	sender FILE                                    frames, bytes and the longest frame
	sender FILE INTERFACE RATE LOOPS [THREADS]     frames a second (0: as fast as it goes); the whole file so many times

With several threads each connection is one thread's, so that its frames stay in order: a virtual cable is sent into and
received from by the sender's own processor time, and one core of that is less than a sensor can take.

Every loop has addresses of its own, so that its connections are new ones: the upper 12 bits below the top nibble of each
IPv4 address (the first 16 bits of an IPv6 address likewise) are XORed with the number of the loop, in every header of an
IP packet directly in Ethernet, and the checksums follow (RFC 1624). 4096 loops differ.

Pacing is by an absolute schedule: what is due is sent, at most BURST frames with one call, and a sender that was kept from
running catches up. A full queue of the interface is waited for: no frame is left out. INTERFACE "-" sends nothing and writes
the frames of all loops, each behind its length in 4 bytes, to standard output: for tests.
The last line on standard output: frames, bytes, seconds, refusals, seconds that it was behind its schedule at the end.

The file: pcap of this byte order, microseconds or nanoseconds, Ethernet, frames not cut. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	BURST = 64,
	SHORTEST_SLEEP_NS = 500000, /* 2,000 wake-ups a second at most: the receiver has to share the cores with us */
	LONGEST_SLEEP_NS = 5000000,
	LOOPS = 4096, /* with addresses of their own */
	MOST_THREADS = 16,
	BUCKET_BITS = 14,
	BUCKETS = 1 << BUCKET_BITS, /* of connections, to be dealt out to threads */
	AHEAD = 16,        /* frames: they are asked for before they are needed */
	PCAP_HEADER = 24,
	RECORD_HEADER = 16,
};

struct frame {
	uint8_t *data;
	uint32_t length;
	uint16_t ip;       /* offset of the IP header; 0: none to change */
	uint16_t checksum; /* offset of the checksum in the transport header; 0: none that covers the addresses */
	uint32_t turn;     /* place in the file, from 0 */
	uint32_t bucket;   /* the same for both directions of a connection */
};

/* What one thread sends, and what came of it. */
struct part {
	pthread_t thread;
	struct frame *frames; /* ascending turns */
	size_t count;
	uint64_t refusals;
	int64_t end; /* ns of CLOCK_MONOTONIC */
};

static struct frame *frames;
static size_t count;
static struct part parts[MOST_THREADS];
static const char *interface;
static double rate;
static uint64_t loops;
static int64_t begin; /* ns of CLOCK_MONOTONIC */
static uint64_t bytes;
static uint32_t longest;

static void
fail(const char *what)
{
	if (errno)
		fprintf(stderr, "sender: %s: %s\n", what, strerror(errno));
	else
		fprintf(stderr, "sender: %s\n", what);
	exit(1);
}

static uint32_t
word32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof value);
	return value;
}

static uint16_t
word(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void
put(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Where the addresses and checksums of a frame are, as far as it has them, and the bucket of its connection. */
static void
look(struct frame *frame)
{
	const uint8_t *data = frame->data;
	uint32_t at = 12, transport, protocol, ends = 0;

	while (at + 4 <= frame->length && (word(data + at) == 0x8100 || word(data + at) == 0x88a8))
		at += 4;
	if (at + 2 > frame->length)
		return;
	uint16_t type = word(data + at);
	at += 2;
	if (type == 0x0800 && at + 20 <= frame->length && data[at] >> 4 == 4) {
		transport = at + (data[at] & 15) * 4;
		/* A later fragment has payload where the transport header would be. */
		protocol = word(data + at + 6) & 0x1fff ? 0 : data[at + 9];
	} else if (type == 0x86dd && at + 40 <= frame->length && data[at] >> 4 == 6) {
		transport = at + 40;
		protocol = data[at + 6];
	} else
		return;
	frame->ip = (uint16_t)at;
	/* Sums know no direction. Ports stay out: fragments have none, and connections of one client may share a thread. */
	for (uint32_t from = type == 0x0800 ? at + 12 : at + 8; from < (type == 0x0800 ? at + 20 : at + 40); from += 4)
		ends += word32(data + from);
	frame->bucket = (ends * 2654435761U) >> (32 - BUCKET_BITS);
	if (protocol == 6 && transport + 20 <= frame->length)
		frame->checksum = (uint16_t)(transport + 16);
	else if (protocol == 17 && transport + 8 <= frame->length && word(data + transport + 6))
		frame->checksum = (uint16_t)(transport + 6);
}

/* RFC 1624, equation 3: the checksum field when `was` in what it covers becomes `is`. */
static void
follow(uint8_t *field, uint16_t was, uint16_t is)
{
	uint32_t sum = (uint16_t)~word(field) + (uint32_t)(uint16_t)~was + is;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	put(field, ~sum & 0xffff);
}

/* Other addresses: `change` is XORed with the first 16 bits of both. */
static void
move(struct frame *frame, uint16_t change)
{
	if (!frame->ip)
		return;
	uint8_t *ip = frame->data + frame->ip;
	int v4 = ip[0] >> 4 == 4;

	for (int end = 0; end < 2; end++) {
		uint8_t *address = ip + (v4 ? 12 + 4 * end : 8 + 16 * end);
		uint16_t was = word(address), is = was ^ change;

		put(address, is);
		if (v4)
			follow(ip + 10, was, is);
		if (frame->checksum)
			follow(frame->data + frame->checksum, was, is);
	}
}

static void
load(const char *path)
{
	struct stat about;
	int file = open(path, O_RDONLY);

	if (file < 0 || fstat(file, &about) < 0)
		fail(path);
	size_t size = (size_t)about.st_size, room = 0;
	errno = 0;
	if (size < PCAP_HEADER)
		fail("too short for a capture file");
	uint8_t *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, file, 0);
	if (data == MAP_FAILED)
		fail(path);
	if ((word32(data) != 0xa1b23c4d && word32(data) != 0xa1b2c3d4) || word32(data + 20) != 1)
		fail("no pcap file of Ethernet frames in this machine's byte order");
	for (size_t at = PCAP_HEADER; at < size;) {
		uint32_t length = at + RECORD_HEADER <= size ? word32(data + at + 8) : 0;

		if (at + RECORD_HEADER > size || length > size - at - RECORD_HEADER || length < ETH_HLEN)
			fail("the capture file is damaged, or has a frame without an Ethernet header");
		if (count == room) {
			room = room ? room * 2 : 65536;
			frames = realloc(frames, room * sizeof *frames);
			if (!frames)
				fail("memory");
		}
		frames[count] = (struct frame){data + at + RECORD_HEADER, length, 0, 0, (uint32_t)count, 0};
		look(&frames[count++]);
		bytes += length;
		if (length > longest)
			longest = length;
		at += RECORD_HEADER + length;
	}
	errno = 0;
	if (!count)
		fail("no frame in the capture file");
}

static int64_t
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void
rest(int64_t ns)
{
	struct timespec time = {0, ns < SHORTEST_SLEEP_NS ? SHORTEST_SLEEP_NS : ns > LONGEST_SLEEP_NS ? LONGEST_SLEEP_NS : ns};

	nanosleep(&time, NULL);
}

static int
bind_to(const char *name)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
	int yes = 1, send_buffer = 4 << 20;
	int plug = socket(AF_PACKET, SOCK_RAW, 0); /* protocol 0: receives nothing */

	if (!address.sll_ifindex || plug < 0 || bind(plug, (struct sockaddr *)&address, sizeof address) < 0)
		fail(name);
	/* Straight to the driver; and nothing that this refuses is needed to send. */
	setsockopt(plug, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes);
	setsockopt(plug, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof send_buffer);
	return plug;
}

static void
write_out(void)
{
	for (unsigned loop = 0; loop < loops; loop++)
		for (size_t n = 0; n < count; n++) {
			if (loop)
				move(&frames[n], (uint16_t)((loop % LOOPS) ^ ((loop - 1) % LOOPS)));
			if (fwrite(&frames[n].length, 4, 1, stdout) != 1 ||
			    fwrite(frames[n].data, frames[n].length, 1, stdout) != 1)
				fail("standard output");
		}
}

/* Each bucket to the thread that has fewest frames so far. */
static void
deal(unsigned threads)
{
	static uint32_t size[BUCKETS];
	static uint8_t owner[BUCKETS];

	for (size_t n = 0; n < count; n++)
		size[frames[n].bucket]++;
	for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
		unsigned least = 0;

		for (unsigned n = 1; n < threads; n++)
			if (parts[n].count < parts[least].count)
				least = n;
		owner[bucket] = (uint8_t)least;
		parts[least].count += size[bucket];
	}
	for (unsigned n = 0; n < threads; n++) {
		parts[n].frames = malloc((parts[n].count + 1) * sizeof *frames);
		if (!parts[n].frames)
			fail("memory");
		parts[n].count = 0;
	}
	for (size_t n = 0; n < count; n++) {
		struct part *part = &parts[owner[frames[n].bucket]];

		part->frames[part->count++] = frames[n];
	}
}

/* The work of one thread: its frames of every loop, each when its turn in the whole has come. */
static void *
work(void *given)
{
	struct part *part = given;
	int plug = bind_to(interface);
	struct iovec pieces[BURST];
	struct mmsghdr messages[BURST];

	memset(messages, 0, sizeof messages);
	for (int n = 0; n < BURST; n++)
		messages[n].msg_hdr = (struct msghdr){.msg_iov = &pieces[n], .msg_iovlen = 1};
	prctl(PR_SET_TIMERSLACK, 1UL);

	int64_t time = begin;
	for (uint64_t loop = 0; loop < loops; loop++)
		for (size_t place = 0; place < part->count;) {
			uint64_t first = loop * count, due = loops * count; /* turns below `due` have come */

			if (rate > 0) {
				due = (uint64_t)((double)(time - begin) * rate / 1e9 + 1);
				if (due <= first + part->frames[place].turn) {
					rest((int64_t)((double)(first + part->frames[place].turn) * 1e9 / rate) - (time - begin));
					time = now();
					continue;
				}
			}
			int ready = 0;
			for (; ready < BURST && place < part->count && first + part->frames[place].turn < due; ready++, place++) {
				struct frame *frame = &part->frames[place];

				if (place + AHEAD < part->count)
					for (uint32_t line = 0; line < frame[AHEAD].length; line += 64)
						__builtin_prefetch(frame[AHEAD].data + line, 1);
				if (loop)
					move(frame, (uint16_t)((loop % LOOPS) ^ ((loop - 1) % LOOPS)));
				pieces[ready] = (struct iovec){frame->data, frame->length};
			}
			for (int done = 0; done < ready;) {
				int taken = sendmmsg(plug, messages + done, (unsigned)(ready - done), 0);
				if (taken > 0)
					done += taken;
				else if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) {
					part->refusals++;
					rest(0);
				} else
					fail("sending");
				/* messages[n] always points at pieces[n]: what was not taken is offered again */
			}
			time = now();
		}
	part->end = time;
	return NULL;
}

int
main(int argc, char **argv)
{
	unsigned threads = argc == 6 ? (unsigned)atoi(argv[5]) : 1;

	if ((argc != 2 && argc != 5 && argc != 6) || threads < 1 || threads > MOST_THREADS) {
		fprintf(stderr, "usage: sender FILE [INTERFACE RATE LOOPS [THREADS]]\n");
		return 2;
	}
	load(argv[1]);
	if (argc == 2) {
		printf("%zu %llu %u\n", count, (unsigned long long)bytes, longest);
		return 0;
	}
	interface = argv[2];
	rate = atof(argv[3]);
	loops = strtoull(argv[4], NULL, 10);
	if (!strcmp(interface, "-")) {
		write_out();
		return 0;
	}
	deal(threads);
	begin = now();
	for (unsigned n = 0; n < threads; n++)
		if ((errno = pthread_create(&parts[n].thread, NULL, work, &parts[n])))
			fail("a thread");
	uint64_t total = loops * count, refusals = 0;
	int64_t end = begin;
	for (unsigned n = 0; n < threads; n++) {
		pthread_join(parts[n].thread, NULL);
		refusals += parts[n].refusals;
		if (parts[n].end > end)
			end = parts[n].end;
	}
	double spent = (double)(end - begin) / 1e9;
	double behind = rate > 0 ? spent - (double)(total - 1) / rate : 0;
	printf("%llu %llu %.6f %llu %.6f\n", (unsigned long long)total, (unsigned long long)(bytes * loops), spent,
	    (unsigned long long)refusals, behind > 0 ? behind : 0);
	return 0;
}
