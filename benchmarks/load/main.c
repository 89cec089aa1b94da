/* The load generator: thousands of WebSocket clients in one thread. Commands are lines on standard input (text.h), each
   answered by one line of JSON; between commands and during them pings and heartbeats are answered.

   open     a group of clients: group, host, port, count, first, path, header*, subprotocol, opening*, ready, pulse,
            pulse_answer, credentials (a file), capture, at_once, seconds
   reopen   the clients of a group again, with whatever is said anew
   begin    forgets what was counted
   wait     until so many deliveries, at most so many seconds
   ask      requests of a group: request, answer, in_flight, rate or as fast as answers come, total, seconds
   close    a group: abort, keep (for reopen), seconds */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

enum { MOST_GROUPS = 64, EVENTS = 512, LINE = 1 << 20 };

/* What the last command waits for; one at a time. */
typedef struct {
    enum { NOTHING, TO_OPEN, TO_WAIT, TO_ASK, TO_CLOSE } what;
    Group *group;
    uint32_t next, at_once;
    uint64_t deadline, began, total;
    uint64_t before, unanswered; /* requests that were sent, and given up, before this task */
    double rate;
    bool keeps;
} Task;

static Group groups[MOST_GROUPS];
static int group_count;
static Task task;

/* ------------------------------------------------------------------------------------------------- answers */

static uint64_t own_cpu(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void say_histogram(const char *name, const Histogram *h) {
    printf(",\"%s\":{\"count\":%llu,\"p50\":%llu,\"p99\":%llu,\"p999\":%llu,\"max\":%llu}", name,
           (unsigned long long)h->count, (unsigned long long)histogram_at(h, 0.5),
           (unsigned long long)histogram_at(h, 0.99), (unsigned long long)histogram_at(h, 0.999),
           (unsigned long long)h->most);
}

static void answer(void) {
    uint64_t first = tally.first ? tally.first : task.began;
    printf("{\"deliveries\":%llu,\"bytes\":%llu,\"requests\":%llu,\"answers\":%llu,\"pings\":%llu,\"first_ns\":%llu,"
           "\"span_ns\":%llu,\"task_ns\":%llu,\"cpu_ns\":%llu",
           (unsigned long long)tally.deliveries, (unsigned long long)tally.bytes, (unsigned long long)tally.requests,
           (unsigned long long)tally.answers, (unsigned long long)tally.pings, (unsigned long long)tally.first,
           (unsigned long long)(tally.last > first ? tally.last - first : 0), (unsigned long long)(now_ns() - task.began),
           (unsigned long long)own_cpu());
    printf(",\"ready\":%u,\"under_way\":%u,\"failed\":%u,\"lost\":%u,\"why\":\"%s\"", presence.ready,
           presence.under_way, presence.failed, presence.lost, presence.why);
    say_histogram("latency", &tally.latency);
    say_histogram("answer_latency", &tally.answer_latency);
    say_histogram("opening", &presence.opening);
    say_histogram("opening_since_start", &presence.opening_since_start);
    puts("}");
    fflush(stdout);
    task.what = NOTHING;
}

static void refuse(const char *why) {
    printf("{\"error\":\"%s\"}\n", why);
    fflush(stdout);
}

/* ------------------------------------------------------------------------------------------------- groups */

static Group *group_named(const char *name) {
    for (int i = 0; i < group_count; i++)
        if (!strcmp(groups[i].name, name)) return &groups[i];
    return NULL;
}

static void set_text(char **text, const char *value, const char *otherwise) {
    if (!value && *text) return;
    free(*text);
    *text = strdup(value ? value : otherwise);
}

static void set_bytes(Bytes *bytes, const char *value) {
    if (!value) return;
    free(bytes->text);
    bytes->text = strdup(value);
    bytes->length = strlen(value) > CARRY ? CARRY : strlen(value);
}

static void set_lists(Manner *manner, const Command *command) {
    char headers[8192] = "";
    const char *line;
    for (int at = 0; (line = command_next(command, "header", &at));)
        strncat(strncat(headers, line, sizeof headers - strlen(headers) - 3), "\r\n", 3);
    set_text(&manner->headers, *headers ? headers : NULL, "");
    for (int at = 0; (line = command_next(command, "opening", &at)) && manner->opening_count < MOST_OPENINGS;)
        manner->openings[manner->opening_count++] = strdup(line);
}

static bool set_manner(Manner *manner, const Command *command) {
    const char *credentials = command_get(command, "credentials", NULL);
    set_text(&manner->path, command_get(command, "path", NULL), "/");
    set_text(&manner->subprotocol, command_get(command, "subprotocol", NULL), "");
    if (command_get(command, "opening", NULL)) manner->opening_count = 0;
    set_lists(manner, command);
    set_bytes(&manner->ready, command_get(command, "ready", NULL));
    set_bytes(&manner->pulse, command_get(command, "pulse", NULL));
    set_bytes(&manner->pulse_answer, command_get(command, "pulse_answer", NULL));
    set_bytes(&manner->capture, command_get(command, "capture", NULL));
    if (credentials && !(manner->credentials = lines_of(credentials, &manner->credential_count))) return false;
    if (command_get(command, "port", NULL)) {
        manner->address.sin_family = AF_INET;
        manner->address.sin_port = htons((uint16_t)command_number(command, "port", 0));
        return inet_pton(AF_INET, command_get(command, "host", "127.0.0.1"), &manner->address.sin_addr) == 1;
    }
    return true;
}

static Group *group_made(const Command *command) {
    Group *group = &groups[group_count];
    *group = (Group){.name = strdup(command_get(command, "group", "")), .count = (uint32_t)command_number(command, "count", 1),
                     .first = (uint32_t)command_number(command, "first", 0)};
    group->clients = calloc(group->count, sizeof *group->clients);
    for (uint32_t i = 0; i < group->count; i++) {
        group->clients[i].group = group;
        group->clients[i].n = group->first + i;
        group->clients[i].fd = -1;
    }
    group_count++;
    return group;
}

static void group_drop(Group *group) {
    for (uint32_t i = 0; i < group->count; i++) free(group->clients[i].sent);
    free(group->clients);
    free(group->name);
    group->name = strdup("");
    group->count = 0;
    while (group_count && !groups[group_count - 1].count) group_count--;
}

/* ------------------------------------------------------------------------------------------------- commands */

static void begin(void) {
    tally = (Tally){0};
    histogram_clear(&presence.opening);
    histogram_clear(&presence.opening_since_start);
    presence.failed = presence.lost = 0;
    *presence.why = 0;
}

static void begin_task(const Command *command, Group *group, int what) {
    uint64_t now = now_ns();
    task = (Task){.what = what, .group = group, .began = now, .rate = command_number(command, "rate", 0),
                  .deadline = now + (uint64_t)(command_number(command, "seconds", 30) * 1e9),
                  .at_once = (uint32_t)command_number(command, "at_once", 64)};
}

static void begin_opening(const Command *command, Group *group) {
    bool is_new = !strcmp(command->verb, "open");
    if (is_new == (group != NULL) || (is_new && group_count == MOST_GROUPS)) return refuse("no such group, or one more of it");
    if (is_new) group = group_made(command);
    if (!set_manner(&group->manner, command)) return refuse("not an address, or no file of credentials");
    begin_task(command, group, TO_OPEN);
    presence.opening_since = task.began;
}

static void begin_asking(const Command *command, Group *group) {
    if (!group) return refuse("no such group");
    set_text(&group->manner.request, command_get(command, "request", NULL), "");
    set_bytes(&group->manner.answer, command_get(command, "answer", NULL));
    group->in_flight = (uint32_t)command_number(command, "in_flight", 1);
    for (uint32_t i = 0; i < group->count; i++) {
        group->clients[i].sent = realloc(group->clients[i].sent, group->in_flight * sizeof(uint64_t));
        group->clients[i].waiting = group->clients[i].first_sent = 0;
    }
    begin_task(command, group, TO_ASK);
    task.before = tally.requests;
    task.unanswered = tally.requests - tally.answers;
    task.total = (uint64_t)command_number(command, "total", 1e18);
    group->is_hurried = task.rate == 0;
    for (uint32_t i = 0; group->is_hurried && i < group->count; i++) client_ask(&group->clients[i], group->in_flight, 0);
}

static void begin_closing(const Command *command, Group *group) {
    if (!group) return refuse("no such group");
    begin_task(command, group, TO_CLOSE);
    task.keeps = command_number(command, "keep", 0) != 0;
    for (uint32_t i = 0; i < group->count; i++)
        client_close(&group->clients[i], command_number(command, "abort", 0) != 0);
}

static void carry_out(char *line) {
    Command command;
    command_parse(&command, line);
    Group *group = group_named(command_get(&command, "group", ""));
    if (!strcmp(command.verb, "open") || !strcmp(command.verb, "reopen")) return begin_opening(&command, group);
    if (!strcmp(command.verb, "ask")) return begin_asking(&command, group);
    if (!strcmp(command.verb, "close")) return begin_closing(&command, group);
    if (!strcmp(command.verb, "begin")) begin();
    begin_task(&command, NULL, TO_WAIT);
    task.total = (uint64_t)command_number(&command, "deliveries", 0);
    if (!strcmp(command.verb, "begin")) answer();
    else if (strcmp(command.verb, "wait")) refuse("no such command"), task.what = NOTHING;
}

/* ------------------------------------------------------------------------------------------------- the loop */

static bool go_on_opening(void) {
    while (task.next < task.group->count && presence.under_way < task.at_once) client_open(&task.group->clients[task.next++]);
    return task.next == task.group->count && !presence.under_way;
}

/* Requests at a rate go in turn round the clients, each when its time has come; who has too many unanswered is passed over.
   A latency begins when a request was due, so that what the generator or a full client held back is in it. */
static bool go_on_asking(uint64_t now) {
    Group *group = task.group;
    uint64_t due = task.rate ? (uint64_t)((double)(now - task.began) * task.rate / 1e9) : 0;
    uint64_t asked = tally.requests - task.before;
    bool is_over = asked >= task.total || now > task.deadline;
    while (task.rate && !is_over && asked < due && asked < task.total) {
        uint64_t since = task.began + (uint64_t)((double)(asked + 1) * 1e9 / task.rate);
        for (uint32_t tried = 0; tried < group->count && tally.requests - task.before == asked; tried++)
            client_ask(&group->clients[task.next++ % group->count], 1, since);
        if (tally.requests - task.before == asked) break;
        asked++;
    }
    if (is_over) group->is_hurried = false, task.rate = 0, task.total = 0;
    return is_over && tally.answers + task.unanswered >= tally.requests;
}

static bool is_closed(const Group *group) {
    for (uint32_t i = 0; i < group->count; i++)
        if (group->clients[i].state != AWAY) return false;
    return true;
}

static void go_on(void) {
    enum { PATIENCE = 10 };
    uint64_t now = now_ns();
    bool is_late = now > task.deadline + (task.what == TO_ASK ? PATIENCE * 1000000000ull : 0);
    if (task.what == TO_OPEN && (go_on_opening() || is_late)) return answer();
    if (task.what == TO_WAIT && (tally.deliveries >= task.total || is_late)) return answer();
    if (task.what == TO_ASK && (go_on_asking(now) || is_late)) {
        task.group->in_flight = 0;
        return answer();
    }
    if (task.what == TO_CLOSE && (is_closed(task.group) || is_late)) {
        for (uint32_t i = 0; i < task.group->count; i++) client_gone(&task.group->clients[i]);
        if (!task.keeps) group_drop(task.group);
        answer();
    }
}

/* Returns whether there is more to come. */
static bool read_commands(void) {
    static char line[LINE];
    static size_t size;
    ssize_t taken = read(STDIN_FILENO, line + size, LINE - 1 - size);
    if (taken <= 0) return false;
    size += (size_t)taken;
    for (char *end; (end = memchr(line, '\n', size));) {
        *end = 0;
        size_t used = (size_t)(end + 1 - line);
        carry_out(line);
        memmove(line, line + used, size -= used);
    }
    return size < LINE - 1;
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event commands = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &commands);
    for (bool is_told = true; is_told;) {
        struct timespec pause = {.tv_nsec = task.what == TO_ASK && task.rate ? 200000 : 20000000};
        int count = epoll_pwait2(poll_fd, events, EVENTS, task.what == NOTHING ? NULL : &pause, NULL);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) client_event(events[i].data.ptr, events[i].events);
            else is_told = read_commands();
        }
        go_on();
    }
    return 0;
}
