/* One WebSocket client: its handshake, the frames that come, and what is looked for in them. It reads streams of any
   fragmentation, keeps no message, and tells what it saw; it decides nothing. */
#ifndef CLIENT_H
#define CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"
#include "text.h"

enum { CARRY = 63, MOST_OPENINGS = 16, CAPTURED = 64 };

typedef enum { AWAY, CONNECTING, UPGRADING, OPENING, READY, CLOSING } State;

/* How clients of one group come in, and what counts. */
typedef struct {
    char *path, *subprotocol, *headers, *openings[MOST_OPENINGS], *request;
    int opening_count;
    Bytes ready, pulse, pulse_answer, capture, answer;
    char **credentials;
    size_t credential_count;
    struct sockaddr_in address;
} Manner;

typedef struct Group Group;

typedef struct {
    Group *group;
    uint64_t began, left, stamp;
    uint64_t *sent; /* when the requests were due that are not answered, a ring of the group's in_flight */
    char *unsent, *head;
    size_t unsent_size, head_size;
    uint32_t n, waiting, first_sent;
    int fd;
    uint8_t state, opcode, header_size, carry_size, control_size;
    bool is_stamping, waits_for_room;
    uint8_t header[10], carry[CARRY], control[125];
    char captured[CAPTURED];
} Client;

struct Group {
    char *name;
    Manner manner;
    Client *clients;
    uint32_t count, first;
    uint32_t in_flight; /* requests that each client may have unanswered; 0 when nobody asks */
    bool is_hurried;    /* whether an answer brings the next request at once */
};

/* What was seen since `begin`, by all clients. */
typedef struct {
    uint64_t deliveries, bytes, answers, requests, first, last, pings;
    Histogram latency, answer_latency;
} Tally;

/* What clients are doing, at any time. */
typedef struct {
    uint32_t under_way, ready, failed, lost;
    uint64_t opening_since;
    Histogram opening, opening_since_start;
    char why[160];
} Presence;

extern Tally tally;
extern Presence presence;
extern int poll_fd;

uint64_t now_ns(void);
/* Begins to connect; the rest comes by `client_event`. */
void client_open(Client *client);
void client_event(Client *client, uint32_t events);
/* Sends so many more requests, at most as many as may be unanswered, that were due then (0: now). */
void client_ask(Client *client, uint32_t count, uint64_t due);
/* Says goodbye with 1000 and waits for the server, or just goes. */
void client_close(Client *client, bool abort);
void client_gone(Client *client);

#endif
