/* The floor: what libpcap itself takes to hand out every frame of a file. Prints frames and captured bytes. */
#include <pcap/pcap.h>
#include <stdio.h>

struct tally {
	unsigned long long frames;
	unsigned long long bytes;
};

static void
count(u_char *user, const struct pcap_pkthdr *header, const u_char *frame)
{
	struct tally *tally = (struct tally *)user;

	(void)frame;
	tally->frames++;
	tally->bytes += header->caplen;
}

int
main(int argc, char **argv)
{
	char message[PCAP_ERRBUF_SIZE];
	struct tally tally = {0, 0};
	pcap_t *handle;
	int left;

	if (argc != 2) {
		fprintf(stderr, "usage: floor FILE\n");
		return 2;
	}
	handle = pcap_open_offline(argv[1], message);
	if (handle == NULL) {
		fprintf(stderr, "floor: %s\n", message);
		return 1;
	}
	left = pcap_loop(handle, -1, count, (u_char *)&tally);
	if (left < 0)
		fprintf(stderr, "floor: %s\n", pcap_geterr(handle));
	pcap_close(handle);
	printf("%llu frames %llu bytes\n", tally.frames, tally.bytes);
	return left < 0;
}
