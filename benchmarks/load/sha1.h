/* The answer to a WebSocket handshake (RFC 6455, 4.2.2): base64 of SHA-1 of the key and a fixed text. Nothing else here
   needs a hash. */
#ifndef SHA1_H
#define SHA1_H

#include <stdint.h>
#include <string.h>

static inline uint32_t sha1_rotate(uint32_t value, int by) { return value << by | value >> (32 - by); }

static inline void sha1_block(uint32_t state[5], const uint8_t block[64]) {
    static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t words[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++) words[i] = sha1_rotate(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t mixed = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t next = sha1_rotate(a, 5) + mixed + e + constants[i / 20] + words[i];
        e = d, d = c, c = sha1_rotate(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* Writes the 28 characters that accept a key. Key and text together are 60 bytes, so two blocks. */
static inline void websocket_accept(char accept[32], const char *key, size_t size) {
    static const char text[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t blocks[128] = {0}, hash[21] = {0};
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    if (size > 64) size = 64;
    memcpy(blocks, key, size);
    memcpy(blocks + size, text, 36);
    blocks[size + 36] = 0x80;
    blocks[126] = (uint8_t)((size + 36) * 8 >> 8);
    blocks[127] = (uint8_t)((size + 36) * 8);
    sha1_block(state, blocks);
    sha1_block(state, blocks + 64);
    for (int i = 0; i < 20; i++) hash[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 28; i += 4) {
        const uint8_t *three = hash + i / 4 * 3;
        uint32_t bits = (uint32_t)three[0] << 16 | (uint32_t)three[1] << 8 | three[2];
        for (int j = 0; j < 4; j++) accept[i + j] = digits[bits >> (18 - 6 * j) & 63];
    }
    accept[27] = '=';
    accept[28] = 0;
}

#endif
