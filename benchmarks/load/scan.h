/* Looks for byte patterns in a stream that comes in pieces: a match may lie across two of them. Each piece is looked at
   once, in vectors of sixteen bytes, so that millions of messages a second stay affordable. */
#ifndef SCAN_H
#define SCAN_H

#include "client.h"

/* Counts every `"t":<ns>` as a delivery, with the time since then as its latency. */
void scan_stamps(Client *client, const uint8_t *data, size_t size, uint64_t now);
/* How often the pattern, of at most CARRY bytes, ends in this piece. */
uint32_t scan_for(const Client *client, const Bytes *pattern, const uint8_t *data, size_t size);
/* Keeps the end of this piece for matches that go on in the next. */
void scan_keep(Client *client, const uint8_t *data, size_t size);

#endif
