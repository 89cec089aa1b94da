#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "scan.h"

enum { INCOMING = 256 * 1024, OUTGOING = 64 * 1024, MOST_HEAD = 64 * 1024 };
enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

Tally tally;
Presence presence;
int poll_fd;

static uint8_t incoming[INCOMING];
static char outgoing[OUTGOING];
static uint64_t last_id;

uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void watch(Client *client, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(poll_fd, change, client->fd, &event);
}

static Names names_of(const Client *client, uint64_t id, uint64_t now) {
    const Manner *manner = &client->group->manner;
    const char *credential = manner->credential_count ? manner->credentials[client->n % manner->credential_count] : "";
    return (Names){.n = client->n, .id = id, .now = now, .credential = credential, .captured = client->captured};
}

/* ------------------------------------------------------------------------------------------------- outgoing */

static void send_bytes(Client *client, const char *data, size_t size) {
    ssize_t taken = client->unsent_size ? 0 : send(client->fd, data, size, MSG_NOSIGNAL);
    if (taken < 0) taken = 0; /* what is wrong with it, if anything is, is told by the next event */
    if ((size_t)taken == size) return;
    size_t left = size - (size_t)taken;
    client->unsent = realloc(client->unsent, client->unsent_size + left);
    memcpy(client->unsent + client->unsent_size, data + taken, left);
    client->unsent_size += left;
    if (!client->waits_for_room) watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    client->waits_for_room = true;
}

static void send_unsent(Client *client) {
    ssize_t taken = send(client->fd, client->unsent, client->unsent_size, MSG_NOSIGNAL);
    if (taken <= 0) return;
    client->unsent_size -= (size_t)taken;
    memmove(client->unsent, client->unsent + taken, client->unsent_size);
    if (client->unsent_size) return;
    free(client->unsent);
    client->unsent = NULL;
    client->waits_for_room = false;
    watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

/* A whole frame, masked as clients must, with a mask of zeros: a server has the same work with it. */
static size_t frame_put(char *out, size_t room, uint8_t opcode, const char *payload, size_t size) {
    size_t head = size < 126 ? 6 : 8;
    if (size > 0xffff || head + size > room) return 0;
    out[0] = (char)(0x80 | opcode);
    out[1] = (char)(0x80 | (size < 126 ? size : 126));
    if (size >= 126) {
        out[2] = (char)(size >> 8);
        out[3] = (char)size;
    }
    memset(out + head - 4, 0, 4);
    memmove(out + head, payload, size);
    return head + size;
}

static void send_frame(Client *client, uint8_t opcode, const char *payload, size_t size) {
    char frame[OUTGOING];
    send_bytes(client, frame, frame_put(frame, sizeof frame, opcode, payload, size));
}

void client_ask(Client *client, uint32_t count, uint64_t due) {
    Group *group = client->group;
    uint64_t now = now_ns();
    if (!due) due = now;
    size_t size = 0;
    for (; count && client->waiting < group->in_flight && client->state == READY; count--) {
        char request[8192];
        Names names = names_of(client, ++last_id, now);
        size_t length = template_fill(request, sizeof request, group->manner.request, &names);
        if (OUTGOING - size < length + 8) {
            send_bytes(client, outgoing, size);
            size = 0;
        }
        size += frame_put(outgoing + size, OUTGOING - size, TEXT, request, length);
        client->sent[(client->first_sent + client->waiting++) % group->in_flight] = due;
        tally.requests++;
    }
    if (size) send_bytes(client, outgoing, size);
}

/* ------------------------------------------------------------------------------------------------- coming in */

void client_open(Client *client) {
    const Manner *manner = &client->group->manner;
    int yes = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    client->state = CONNECTING;
    client->began = now_ns();
    client->left = client->header_size = client->carry_size = client->control_size = 0;
    client->waiting = client->first_sent = 0;
    client->stamp = 0;
    client->is_stamping = client->waits_for_room = false;
    presence.under_way++;
    if (client->fd < 0) return client_gone(client);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(client->fd, (const struct sockaddr *)&manner->address, sizeof manner->address) && errno != EINPROGRESS)
        return client_gone(client);
    watch(client, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void send_upgrade(Client *client) {
    const Manner *manner = &client->group->manner;
    char template[16384], request[16384];
    int length = snprintf(
        template, sizeof template,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s%s\r\n",
        manner->path, ntohs(manner->address.sin_port), *manner->subprotocol ? "Sec-WebSocket-Protocol: " : "",
        manner->subprotocol, *manner->subprotocol ? "\r\n" : "", manner->headers);
    if (length >= (int)sizeof template) return client_gone(client);
    Names names = names_of(client, 0, 0);
    client->state = UPGRADING;
    watch(client, EPOLL_CTL_MOD, EPOLLIN);
    send_bytes(client, request, template_fill(request, sizeof request, template, &names));
}

static void say_why(const char *what, const char *said, size_t size) {
    if (*presence.why) return;
    size_t length = (size_t)snprintf(presence.why, sizeof presence.why, "%s: ", what);
    for (size_t i = 0; i < size && length + 1 < sizeof presence.why; i++) {
        char c = said[i];
        if (c == '\r' || c == '\n') break;
        presence.why[length++] = (c < ' ' || c == '"' || c == '\\' || c > '~') ? '.' : c;
    }
    presence.why[length] = 0;
}

/* What came until the client is ready is kept, so that it can be looked at as a whole. */
static bool head_add(Client *client, const uint8_t *data, size_t size) {
    if (client->head_size + size > MOST_HEAD) {
        say_why("too much came before it was ready", client->head, client->head_size);
        client_gone(client);
        return false;
    }
    client->head = realloc(client->head, client->head_size + size + 1);
    memcpy(client->head + client->head_size, data, size);
    client->head_size += size;
    client->head[client->head_size] = 0;
    return true;
}

static void head_drop(Client *client) {
    free(client->head);
    client->head = NULL;
    client->head_size = 0;
}

static void be_ready(Client *client) {
    uint64_t now = now_ns();
    client->state = READY;
    presence.under_way--;
    presence.ready++;
    histogram_add(&presence.opening, now - client->began);
    histogram_add(&presence.opening_since_start, now - presence.opening_since);
    head_drop(client);
}

static void capture(Client *client) {
    const Bytes *mark = &client->group->manner.capture;
    char *at = mark->length ? memmem(client->head, client->head_size, mark->text, mark->length) : NULL;
    if (!at) return;
    at += mark->length;
    size_t size = strcspn(at, "\"");
    if (size >= CAPTURED || at + size == client->head + client->head_size) return;
    memcpy(client->captured, at, size);
    client->captured[size] = 0;
}

static void look_for_ready(Client *client, const uint8_t *data, size_t size) {
    const Bytes *ready = &client->group->manner.ready;
    if (!head_add(client, data, size) || !memmem(client->head, client->head_size, ready->text, ready->length)) return;
    capture(client);
    be_ready(client);
}

/* Where the head ends, behind its empty line; 0 when that has not come yet. */
static size_t head_end(const Client *client) {
    for (size_t end = 4; end <= client->head_size; end++)
        if (!memcmp(client->head + end - 4, "\r\n\r\n", 4)) return end;
    return 0;
}

/* Returns how much of the data belonged to the answer to the upgrade. */
static size_t take_upgrade(Client *client, const uint8_t *data, size_t size) {
    size_t before = client->head_size;
    if (!head_add(client, data, size)) return size;
    size_t end = head_end(client);
    if (!end) return size;
    if (strncmp(client->head, "HTTP/1.1 101", 12)) {
        say_why("the upgrade was refused", client->head, client->head_size);
        client_gone(client);
        return size;
    }
    head_drop(client);
    client->state = OPENING;
    const Manner *manner = &client->group->manner;
    for (int i = 0; i < manner->opening_count; i++) {
        char text[8192];
        Names names = names_of(client, 0, 0);
        send_frame(client, TEXT, text, template_fill(text, sizeof text, manner->openings[i], &names));
    }
    if (!manner->ready.length) be_ready(client);
    return end - before;
}

/* ------------------------------------------------------------------------------------------------- incoming */

static void see_answers(Client *client, uint32_t count, uint64_t now) {
    if (!client->group->in_flight) return;
    for (uint32_t i = 0; i < count && client->waiting; i++) {
        histogram_add(&tally.answer_latency, now - client->sent[client->first_sent]);
        client->first_sent = (client->first_sent + 1) % client->group->in_flight;
        client->waiting--;
        tally.answers++;
        tally.last = now;
    }
}

static void take_payload(Client *client, const uint8_t *data, size_t size, uint64_t now) {
    const Manner *manner = &client->group->manner;
    if (client->state == OPENING) return look_for_ready(client, data, size);
    if (client->state != READY) return;
    scan_stamps(client, data, size, now);
    if (manner->answer.length) see_answers(client, scan_for(client, &manner->answer, data, size), now);
    if (manner->pulse.length > 1)
        for (uint32_t found = scan_for(client, &manner->pulse, data, size); found; found--)
            send_frame(client, TEXT, manner->pulse_answer.text, manner->pulse_answer.length);
    scan_keep(client, data, size);
}

static void take_control(Client *client, const uint8_t *data, size_t size) {
    if (client->control_size + size > sizeof client->control) {
        errno = EPROTO; /* RFC 6455, 5.5: a control frame has at most 125 bytes */
        return client_gone(client);
    }
    memcpy(client->control + client->control_size, data, size);
    client->control_size += (uint8_t)size;
    if (client->left) return;
    if (client->opcode == PING) {
        tally.pings++;
        send_frame(client, PONG, (char *)client->control, client->control_size);
    } else if (client->opcode == CLOSE) {
        size_t reason = client->control_size > 2 ? client->control_size - 2u : 0;
        if (client->state != CLOSING) say_why("closed by the server", (char *)client->control + 2, reason);
        if (client->state != CLOSING) send_frame(client, CLOSE, (char *)client->control, reason ? 2 : 0);
        return client_gone(client);
    }
    client->control_size = 0;
}

/* How many bytes of header a frame has, as far as its first two tell. */
static uint8_t header_wanted(const Client *client) {
    if (client->header_size < 2) return 2;
    uint8_t size = client->header[1] & 0x7f;
    return size == 126 ? 4 : size == 127 ? 10 : 2;
}

static const uint8_t *take_header(Client *client, const uint8_t *data, const uint8_t *end) {
    while (data < end && client->header_size < header_wanted(client)) client->header[client->header_size++] = *data++;
    uint8_t wanted = header_wanted(client);
    if (client->header_size < wanted) return data;
    uint64_t size = wanted == 2 ? client->header[1] & 0x7f : 0;
    for (uint8_t i = 2; i < wanted; i++) size = size << 8 | client->header[i];
    client->opcode = client->header[0] & 0x0f;
    client->left = size;
    return data;
}

static bool is_pulse(const Client *client, const uint8_t *data, const uint8_t *end) {
    const Bytes *pulse = &client->group->manner.pulse;
    return pulse->length == 1 && client->left == 1 && data < end && *data == (uint8_t)pulse->text[0] &&
           header_wanted(client) == 2 && client->header[1] == 1;
}

static void take_piece(Client *client, const uint8_t *data, size_t size, uint64_t now) {
    const Manner *manner = &client->group->manner;
    bool pulses = is_pulse(client, data, data + size);
    client->left -= size;
    if (client->opcode >= CLOSE) take_control(client, data, size);
    else if (pulses) send_frame(client, TEXT, manner->pulse_answer.text, manner->pulse_answer.length);
    else if (size) take_payload(client, data, size, now);
}

static void take_frames(Client *client, const uint8_t *data, const uint8_t *end, uint64_t now) {
    while (client->state > UPGRADING) {
        if (client->header_size < header_wanted(client)) data = take_header(client, data, end);
        if (client->header_size < header_wanted(client) || (data == end && client->left)) return;
        size_t size = client->left < (uint64_t)(end - data) ? (size_t)client->left : (size_t)(end - data);
        take_piece(client, data, size, now);
        data += size;
        if (!client->left) client->header_size = 0;
    }
}

static void take_data(Client *client, size_t size) {
    uint64_t now = now_ns();
    uint64_t answered = tally.answers;
    size_t used = 0;
    tally.bytes += size;
    if (client->state == UPGRADING) used = take_upgrade(client, incoming, size);
    take_frames(client, incoming + used, incoming + size, now);
    if (client->group->is_hurried && tally.answers > answered) client_ask(client, (uint32_t)(tally.answers - answered), 0);
}

void client_event(Client *client, uint32_t events) {
    if (client->state == CONNECTING && events & EPOLLOUT) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) errno = error;
        return error ? client_gone(client) : send_upgrade(client);
    }
    if (client->waits_for_room && events & EPOLLOUT) send_unsent(client);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    errno = 0;
    ssize_t size = recv(client->fd, incoming, INCOMING, 0);
    if (size > 0) take_data(client, (size_t)size);
    else if (size == 0 || (errno != EAGAIN && errno != EINTR)) client_gone(client);
}

/* ------------------------------------------------------------------------------------------------- going */

void client_gone(Client *client) {
    if (client->state == AWAY) return;
    const char *why = errno ? strerror(errno) : "the server hung up";
    bool was_ready = client->state == READY;
    if (client->state != CLOSING) say_why(was_ready ? "lost" : "not connected", why, strlen(why));
    if (was_ready) presence.ready--, presence.lost++;
    else if (client->state != CLOSING) presence.under_way--, presence.failed++;
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
    client->state = AWAY;
    head_drop(client);
    free(client->unsent);
    client->unsent = NULL;
    client->unsent_size = 0;
}

void client_close(Client *client, bool abort) {
    if (client->state == AWAY) return;
    bool was_ready = client->state == READY;
    if (was_ready) presence.ready--;
    else if (client->state != CLOSING) presence.under_way--;
    client->state = CLOSING;
    if (abort) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    if (abort || !was_ready) return client_gone(client);
    send_frame(client, CLOSE, "\x03\xe8", 2);
}
