/* The floor: what libpcap itself takes to hand out every frame.
 *
 *     floor FILE        prints frames and captured bytes
 *     floor -i IFACE    until SIGTERM, through a ring as large as the appliance's; also what the kernel received and dropped
 */
#include <pcap/pcap.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { SNAPLEN = 1 << 18, RING = 1 << 28, TIMEOUT_MS = 20 };

struct tally {
	unsigned long long frames;
	unsigned long long bytes;
};

static pcap_t *handle;

static void
count(u_char *user, const struct pcap_pkthdr *header, const u_char *frame)
{
	struct tally *tally = (struct tally *)user;

	(void)frame;
	tally->frames++;
	tally->bytes += header->caplen;
}

static void
stop(int number)
{
	(void)number;
	pcap_breakloop(handle);
}

static pcap_t *
live(const char *name, char *message)
{
	struct sigaction action;
	pcap_t *made = pcap_create(name, message);

	if (made == NULL)
		return NULL;
	memset(&action, 0, sizeof action);
	action.sa_handler = stop;
	sigaction(SIGTERM, &action, NULL);
	if (pcap_set_snaplen(made, SNAPLEN) || pcap_set_promisc(made, 1) || pcap_set_buffer_size(made, RING)
	    || pcap_set_timeout(made, TIMEOUT_MS) || pcap_activate(made) < 0) {
		snprintf(message, PCAP_ERRBUF_SIZE, "%s", pcap_geterr(made));
		return NULL;
	}
	fprintf(stderr, "ready\n");
	return made;
}

int
main(int argc, char **argv)
{
	char message[PCAP_ERRBUF_SIZE];
	struct tally tally = {0, 0};
	struct pcap_stat stats;
	int left, of_interface = argc == 3 && strcmp(argv[1], "-i") == 0;

	if (argc != 2 && !of_interface) {
		fprintf(stderr, "usage: floor FILE | -i IFACE\n");
		return 2;
	}
	handle = of_interface ? live(argv[2], message) : pcap_open_offline(argv[1], message);
	if (handle == NULL) {
		fprintf(stderr, "floor: %s\n", message);
		return 1;
	}
	left = pcap_loop(handle, -1, count, (u_char *)&tally);
	if (left == PCAP_ERROR)
		fprintf(stderr, "floor: %s\n", pcap_geterr(handle));
	printf("%llu frames %llu bytes", tally.frames, tally.bytes);
	if (of_interface && pcap_stats(handle, &stats) == 0)
		printf(" %u received %u dropped", stats.ps_recv, stats.ps_drop);
	printf("\n");
	pcap_close(handle);
	return left == PCAP_ERROR;
}
