/* Command lines and templates: words apart by tabs, `key=value`, and `{n}` in values. It knows nothing of sockets. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { MOST_WORDS = 64 };

typedef struct {
    char *verb;
    struct { char *key, *value; } words[MOST_WORDS];
    int count;
} Command;

typedef struct {
    char *text;
    size_t length;
} Bytes;

/* What stands for the names in a template. */
typedef struct {
    uint64_t n, id, now;
    const char *credential, *captured;
} Names;

/* Takes a line apart, in place; `\t`, `\n`, `\r` and `\\` in values become what they stand for. */
void command_parse(Command *command, char *line);
/* The value of a key, or what is said instead; the first one from `*at` on, which moves behind it. */
const char *command_get(const Command *command, const char *key, const char *otherwise);
const char *command_next(const Command *command, const char *key, int *at);
double command_number(const Command *command, const char *key, double otherwise);

/* Writes the template with its names filled in, as far as there is room; the length that it has. */
size_t template_fill(char *out, size_t room, const char *template, const Names *names);

/* The lines of a file; `*count` of them. NULL when it cannot be read. */
char **lines_of(const char *path, size_t *count);

#endif
