/* The feed in C: prints every event, one JSON object per line, and says on standard error what was lost.

   cc -o feed feed.c -lzmq
   ./feed tcp://127.0.0.1:5556 http.5xx.

   A message has three parts: topic; 24 bytes with epoch, sequence and number of events, big-endian; the events,
   separated by newlines. Within an epoch the sequence of a topic has no holes. */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

enum { TOPIC_MAX = 32, TOPICS_MAX = 16 };

struct topic {
    char name[TOPIC_MAX];
    uint64_t next; /* the sequence that must come */
};

static struct topic topics[TOPICS_MAX];
static int known;
static uint64_t current_epoch;

static uint64_t big_endian(const unsigned char *bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Compares a sequence with what must come, and says what is missing. */
static void follow(const char *name, uint64_t epoch, uint64_t sequence)
{
    if (epoch != current_epoch) {
        if (current_epoch)
            fprintf(stderr, "the feed was started again\n");
        known = 0;
        current_epoch = epoch;
    }
    int i = 0;
    while (i < known && strcmp(topics[i].name, name) != 0)
        i++;
    if (i == known) {
        if (known == TOPICS_MAX)
            return;
        snprintf(topics[known++].name, TOPIC_MAX, "%s", name);
    } else if (sequence > topics[i].next) {
        fprintf(stderr, "lost %" PRIu64 " messages of %s\n", sequence - topics[i].next, name);
    }
    topics[i].next = sequence + 1;
}

int main(int argc, char **argv)
{
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_SUB);
    const char *endpoint = argc > 1 ? argv[1] : "tcp://127.0.0.1:5556", *wanted = argc > 2 ? argv[2] : "http.";

    if (zmq_setsockopt(socket, ZMQ_SUBSCRIBE, wanted, strlen(wanted)) != 0 || zmq_connect(socket, endpoint) != 0) {
        fprintf(stderr, "%s: %s\n", endpoint, zmq_strerror(zmq_errno()));
        return 1;
    }
    for (;;) {
        char name[TOPIC_MAX];
        unsigned char header[24];
        zmq_msg_t events;

        /* Each call gives the true length, also of a part that is longer than its buffer. */
        int length = zmq_recv(socket, name, sizeof name - 1, 0);
        if (length < 0 || length >= (int)sizeof name || zmq_recv(socket, header, sizeof header, 0) != sizeof header)
            break;
        name[length] = '\0';
        zmq_msg_init(&events);
        if (zmq_msg_recv(&events, socket, 0) < 0)
            break;
        follow(name, big_endian(header), big_endian(header + 8));
        fwrite(zmq_msg_data(&events), 1, zmq_msg_size(&events), stdout);
        fputc('\n', stdout);
        fflush(stdout);
        zmq_msg_close(&events);
    }
    fprintf(stderr, "not a feed: %s\n", zmq_strerror(zmq_errno()));
    zmq_close(socket);
    zmq_ctx_term(context);
    return 1;
}
