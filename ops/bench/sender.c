/* Puts the frames of a capture file on an interface from memory, at a commanded rate.

	sender FILE                          frames, bytes and the longest frame
	sender FILE INTERFACE RATE LOOPS     frames a second (0: as fast as it goes); the whole file so many times

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
	SHORTEST_SLEEP_NS = 50000, /* 20,000 wake-ups a second at most: the receiver has to share the cores with us */
	LONGEST_SLEEP_NS = 5000000,
	LOOPS = 4096, /* with addresses of their own */
	PCAP_HEADER = 24,
	RECORD_HEADER = 16,
};

struct frame {
	uint8_t *data;
	uint32_t length;
	uint16_t ip;       /* offset of the IP header; 0: none to change */
	uint16_t checksum; /* offset of the checksum in the transport header; 0: none that covers the addresses */
};

static struct frame *frames;
static size_t count;
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

/* Where the addresses and checksums of a frame are, as far as it has them. */
static void
look(struct frame *frame)
{
	const uint8_t *data = frame->data;
	uint32_t at = 12, transport, protocol;

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
		frames[count] = (struct frame){data + at + RECORD_HEADER, length, 0, 0};
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
write_out(unsigned loops)
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

int
main(int argc, char **argv)
{
	if (argc != 2 && argc != 5) {
		fprintf(stderr, "usage: sender FILE [INTERFACE RATE LOOPS]\n");
		return 2;
	}
	load(argv[1]);
	if (argc == 2) {
		printf("%zu %llu %u\n", count, (unsigned long long)bytes, longest);
		return 0;
	}
	double rate = atof(argv[3]);
	uint64_t loops = strtoull(argv[4], NULL, 10), total = loops * count, sent = 0, refusals = 0;
	if (!strcmp(argv[2], "-")) {
		write_out((unsigned)loops);
		return 0;
	}
	int plug = bind_to(argv[2]);
	struct iovec pieces[BURST];
	struct mmsghdr messages[BURST];
	memset(messages, 0, sizeof messages);
	for (int n = 0; n < BURST; n++)
		messages[n].msg_hdr = (struct msghdr){.msg_iov = &pieces[n], .msg_iovlen = 1};
	prctl(PR_SET_TIMERSLACK, 1UL);

	int64_t begin = now(), time = begin;
	while (sent < total) {
		uint64_t due = total;
		if (rate > 0) {
			double by_now = (double)(time - begin) * rate / 1e9 + 1;
			if (by_now < (double)total)
				due = (uint64_t)by_now;
			if (due <= sent) {
				rest((int64_t)((double)sent * 1e9 / rate) - (time - begin));
				time = now();
				continue;
			}
		}
		size_t place = sent % count;
		uint64_t loop = sent / count;
		int ready = 0;
		for (; ready < BURST && sent + (unsigned)ready < due && place < count; ready++, place++) {
			if (loop)
				move(&frames[place], (uint16_t)((loop % LOOPS) ^ ((loop - 1) % LOOPS)));
			pieces[ready] = (struct iovec){frames[place].data, frames[place].length};
		}
		for (int done = 0; done < ready;) {
			int taken = sendmmsg(plug, messages + done, (unsigned)(ready - done), 0);
			if (taken > 0)
				done += taken;
			else if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) {
				refusals++;
				rest(0);
			} else
				fail("sending");
			/* messages[n] always points at pieces[n]: what was not taken is offered again */
		}
		sent += (unsigned)ready;
		time = now();
	}
	double spent = (double)(time - begin) / 1e9;
	double behind = rate > 0 ? spent - (double)(total - 1) / rate : 0;
	printf("%llu %llu %.6f %llu %.6f\n", (unsigned long long)sent, (unsigned long long)(bytes * loops), spent,
	    (unsigned long long)refusals, behind > 0 ? behind : 0);
	return 0;
}
