#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void unescape(char *text) {
    char *out = text;
    for (; *text; text++) {
        if (*text != '\\' || !text[1]) {
            *out++ = *text;
            continue;
        }
        text++;
        *out++ = *text == 't' ? '\t' : *text == 'n' ? '\n' : *text == 'r' ? '\r' : *text;
    }
    *out = 0;
}

void command_parse(Command *command, char *line) {
    char *rest = line;
    command->verb = strsep(&rest, "\t");
    command->count = 0;
    for (char *word; (word = strsep(&rest, "\t")) && command->count < MOST_WORDS;) {
        char *value = strchr(word, '=');
        if (!value) continue;
        *value++ = 0;
        unescape(value);
        command->words[command->count].key = word;
        command->words[command->count++].value = value;
    }
}

const char *command_next(const Command *command, const char *key, int *at) {
    for (; *at < command->count; ++*at)
        if (!strcmp(command->words[*at].key, key)) return command->words[(*at)++].value;
    return NULL;
}

const char *command_get(const Command *command, const char *key, const char *otherwise) {
    int at = 0;
    const char *value = command_next(command, key, &at);
    return value ? value : otherwise;
}

double command_number(const Command *command, const char *key, double otherwise) {
    const char *value = command_get(command, key, NULL);
    return value ? atof(value) : otherwise;
}

static size_t put(char *out, size_t room, size_t at, const char *text, size_t length) {
    for (size_t i = 0; i < length && at + i < room; i++) out[at + i] = text[i];
    return at + length;
}

/* The text that a name stands for, written into `digits` if it is a number; NULL for what is no name. */
static const char *named(const char *name, const Names *names, char digits[24], size_t *skip) {
    static const char *const known[] = {"{n}", "{id}", "{t}", "{credential}", "{captured}"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strncmp(name, known[i], strlen(known[i]))) continue;
        *skip = strlen(known[i]);
        if (i > 2) return i == 3 ? names->credential : names->captured;
        snprintf(digits, 24, "%llu", (unsigned long long)(i == 0 ? names->n : i == 1 ? names->id : names->now));
        return digits;
    }
    return NULL;
}

size_t template_fill(char *out, size_t room, const char *template, const Names *names) {
    size_t at = 0;
    while (*template) {
        const char *brace = strchr(template, '{');
        size_t plain = brace ? (size_t)(brace - template) : strlen(template);
        at = put(out, room, at, template, plain);
        if (!brace) break;
        char digits[24];
        size_t skip = 1;
        const char *text = named(brace, names, digits, &skip);
        at = text ? put(out, room, at, text, strlen(text)) : put(out, room, at, "{", 1);
        template = brace + skip;
    }
    return at < room ? at : room;
}

char **lines_of(const char *path, size_t *count) {
    FILE *file = fopen(path, "r");
    if (!file) return NULL;
    size_t room = 1024, size = 0;
    char **lines = malloc(room * sizeof *lines), *line = NULL;
    for (*count = 0; getline(&line, &size, file) > 0;) {
        line[strcspn(line, "\n")] = 0;
        if (*count == room) lines = realloc(lines, (room *= 2) * sizeof *lines);
        lines[(*count)++] = strdup(line);
    }
    free(line);
    fclose(file);
    return lines;
}
