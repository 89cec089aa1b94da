/* What the kernel allows: subscribers of WebSocket channels, and what is published to them, with nothing in between. It
   has no sessions, no log and no acknowledgements; what any server costs beyond it is that server's own.

   Clients upgrade on any path, which is their channel. A publisher's connection begins with `PUB`; it sends lines
   `CHANNEL SIZE` with the payload behind each, and a line `.` that is answered by one when all before is written.
   `limit each` calls write() for every socket and message. `limit gathered` writes what has come in one turn of the loop
   at once: the limit for bursts, which nobody reaches who handles messages one by one. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sha1.h"

enum { EVENTS = 256, MOST_CHANNELS = 1 << 15, NAME = 48, CHUNK = 1 << 20 };

typedef struct Channel Channel;

typedef struct {
    int fd;
    uint32_t place; /* among the subscribers of its channel */
    enum { NEW, SUBSCRIBER, PUBLISHER } kind;
    bool waits_for_room;
    Channel *channel;
    char *text; /* of a publisher or a head: what is not handled; of a subscriber: what is not sent */
    size_t size;
} Peer;

struct Channel {
    char name[NAME];
    Peer **subscribers;
    uint32_t count, room;
    char *round; /* the frames of this turn */
    size_t round_size, round_room;
};

static Channel channels[MOST_CHANNELS], *touched[MOST_CHANNELS];
static uint32_t touched_count;
static int poll_fd;
static bool is_gathered;

static void watch(Peer *peer, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    epoll_ctl(poll_fd, change, peer->fd, &event);
}

static void keep(char **text, size_t *size, const char *data, size_t more) {
    *text = realloc(*text, *size + more + 1);
    memcpy(*text + *size, data, more);
    *size += more;
    (*text)[*size] = 0;
}

static Channel *channel_named(const char *name, size_t size) {
    uint32_t hash = 2166136261u;
    if (size >= NAME) size = NAME - 1;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    for (;; hash++) {
        Channel *channel = &channels[hash % MOST_CHANNELS];
        if (!*channel->name) memcpy(channel->name, name, size);
        if (!strncmp(channel->name, name, size) && !channel->name[size]) return channel;
    }
}

/* ------------------------------------------------------------------------------------------------- sending */

static void send_to(Peer *peer, const char *data, size_t size) {
    ssize_t taken = peer->size ? 0 : write(peer->fd, data, size);
    if (taken < 0) taken = 0;
    if ((size_t)taken == size) return;
    keep(&peer->text, &peer->size, data + taken, size - (size_t)taken);
    if (!peer->waits_for_room) watch(peer, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    peer->waits_for_room = true;
}

static void send_rest(Peer *peer) {
    ssize_t taken = write(peer->fd, peer->text, peer->size);
    if (taken <= 0) return;
    peer->size -= (size_t)taken;
    memmove(peer->text, peer->text + taken, peer->size);
    if (peer->size) return;
    peer->waits_for_room = false;
    watch(peer, EPOLL_CTL_MOD, EPOLLIN);
}

static void send_round(Channel *channel) {
    for (uint32_t i = 0; i < channel->count; i++) send_to(channel->subscribers[i], channel->round, channel->round_size);
    channel->round_size = 0;
}

static void publish(Channel *channel, const char *payload, size_t size) {
    size_t head = size < 126 ? 2 : 4;
    if (channel->round_size + head + size > channel->round_room)
        channel->round = realloc(channel->round, channel->round_room = 2 * (channel->round_size + head + size));
    char *out = channel->round + channel->round_size;
    out[0] = (char)0x81;
    out[1] = (char)(size < 126 ? size : 126);
    if (size >= 126) out[2] = (char)(size >> 8), out[3] = (char)size;
    memcpy(out + head, payload, size);
    if (!channel->round_size) touched[touched_count++] = channel;
    channel->round_size += head + size;
    if (!is_gathered) send_round(channel), touched_count--;
}

static void end_round(void) {
    while (touched_count) send_round(touched[--touched_count]);
}

/* ------------------------------------------------------------------------------------------------- reading */

static void subscribe(Peer *peer, const char *name, size_t size) {
    Channel *channel = peer->channel = channel_named(name, size);
    if (channel->count == channel->room)
        channel->subscribers = realloc(channel->subscribers, (channel->room = 2 * channel->room + 1) * sizeof(Peer *));
    peer->place = channel->count;
    channel->subscribers[channel->count++] = peer;
    peer->kind = SUBSCRIBER;
}

static void upgrade(Peer *peer) {
    char accept[32], answer[256];
    const char *path = peer->text + 4, *key = strcasestr(peer->text, "sec-websocket-key:");
    if (!key) return;
    key += strlen("sec-websocket-key:");
    key += strspn(key, " ");
    websocket_accept(accept, key, strcspn(key, " \r"));
    size_t name_size = strcspn(path, " ");
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    subscribe(peer, path, name_size);
    peer->size = 0;
    send_to(peer, answer, (size_t)size);
}

/* Takes whole commands from the front of what has come, and keeps what is left. */
static void read_publications(Peer *peer) {
    char *at = peer->text, *end = peer->text + peer->size;
    for (char *line; (line = memchr(at, '\n', (size_t)(end - at)));) {
        if (*at == '.') {
            end_round();
            if (write(peer->fd, ".", 1) != 1) break;
            at = line + 1;
            continue;
        }
        char *space = memchr(at, ' ', (size_t)(line - at));
        size_t size = space ? strtoul(space, NULL, 10) : 0;
        if (!space || (size_t)(end - line - 1) < size) break;
        publish(channel_named(at, (size_t)(space - at)), line + 1, size);
        at = line + 1 + size;
    }
    peer->size = (size_t)(end - at);
    memmove(peer->text, at, peer->size);
}

static void leave(Peer *peer) {
    if (peer->kind == SUBSCRIBER) {
        Channel *channel = peer->channel;
        channel->subscribers[peer->place] = channel->subscribers[--channel->count];
        channel->subscribers[peer->place]->place = peer->place;
    }
    close(peer->fd);
    free(peer->text);
    free(peer);
}

static void read_from(Peer *peer) {
    static char chunk[CHUNK];
    ssize_t size = read(peer->fd, chunk, CHUNK);
    if (size < 0 && errno == EAGAIN) return;
    bool says_goodbye = size > 0 && peer->kind == SUBSCRIBER && (chunk[0] & 0x0f) == 8;
    if (size <= 0 || says_goodbye) return leave(peer);
    if (peer->kind == SUBSCRIBER) return; /* a pong, which nobody asked for */
    keep(&peer->text, &peer->size, chunk, (size_t)size);
    if (peer->kind == NEW && peer->size >= 4 && !strncmp(peer->text, "PUB\n", 4)) {
        peer->kind = PUBLISHER;
        memmove(peer->text, peer->text + 4, peer->size -= 4);
    }
    if (peer->kind == PUBLISHER) return read_publications(peer);
    if (strstr(peer->text, "\r\n\r\n")) upgrade(peer);
}

/* ------------------------------------------------------------------------------------------------- the loop */

static void welcome(int listener) {
    int yes = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        Peer *peer = calloc(1, sizeof *peer);
        peer->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(peer, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) return -1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **words) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    is_gathered = count > 1 && !strcmp(words[1], "gathered");
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on_loopback();
    if (listener < 0) return perror("limit"), 1;
    struct epoll_event incoming = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &incoming);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            Peer *peer = events[i].data.ptr;
            if (!peer) welcome(listener);
            else {
                if (peer->waits_for_room && events[i].events & EPOLLOUT) send_rest(peer);
                if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_from(peer);
            }
        }
        end_round();
    }
}
