/* SHA-256, written from FIPS 180-4. */
#include "ingot.h"

#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define ROTR(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define BIG0(x) (ROTR(x, 2) ^ ROTR(x, 13) ^ ROTR(x, 22))
#define BIG1(x) (ROTR(x, 6) ^ ROTR(x, 11) ^ ROTR(x, 25))
#define SMALL0(x) (ROTR(x, 7) ^ ROTR(x, 18) ^ (x) >> 3)
#define SMALL1(x) (ROTR(x, 17) ^ ROTR(x, 19) ^ (x) >> 10)
#define CH(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MAJ(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))

/* One round with the working variables named in rotated order, so that nothing has to be moved between rounds. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                                                                   \
  do {                                                                                                                                     \
    uint32_t t = (h) + BIG1(e) + CH(e, f, g) + K[i] + w[(i) & 15];                                                                         \
    (d) += t;                                                                                                                              \
    (h) = t + BIG0(a) + MAJ(a, b, c);                                                                                                      \
  } while (0)
#define EIGHT_ROUNDS(i)                                                                                                                    \
  ROUND(a, b, c, d, e, f, g, h, i);                                                                                                        \
  ROUND(h, a, b, c, d, e, f, g, (i) + 1);                                                                                                  \
  ROUND(g, h, a, b, c, d, e, f, (i) + 2);                                                                                                  \
  ROUND(f, g, h, a, b, c, d, e, (i) + 3);                                                                                                  \
  ROUND(e, f, g, h, a, b, c, d, (i) + 4);                                                                                                  \
  ROUND(d, e, f, g, h, a, b, c, (i) + 5);                                                                                                  \
  ROUND(c, d, e, f, g, h, a, b, (i) + 6);                                                                                                  \
  ROUND(b, c, d, e, f, g, h, a, (i) + 7)

static void compress(uint32_t state[8], const unsigned char *data, size_t blocks) {
  for (; blocks; blocks--, data += 64) {
    uint32_t w[16];
    for (int i = 0; i < 16; i++) {
      uint32_t word;
      memcpy(&word, data + 4 * i, 4);
      w[i] = __builtin_bswap32(word);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    EIGHT_ROUNDS(0);
    EIGHT_ROUNDS(8);
    for (int i = 16; i < 64; i += 16) {
      for (int j = 0; j < 16; j++) w[j] += SMALL0(w[(j + 1) & 15]) + w[(j + 9) & 15] + SMALL1(w[(j + 14) & 15]);
      EIGHT_ROUNDS(i);
      EIGHT_ROUNDS(i + 8);
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

void sha256_start(struct sha256 *sha) {
  static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(sha->state, initial, sizeof initial);
  sha->bytes = 0;
}

void sha256_add(struct sha256 *sha, const void *data, size_t bytes) {
  const unsigned char *from = data;
  size_t held = sha->bytes % 64;
  sha->bytes += bytes;
  if (held) {
    size_t take = bytes < 64 - held ? bytes : 64 - held;
    memcpy(sha->block + held, from, take);
    from += take, bytes -= take;
    if (held + take < 64) return;
    compress(sha->state, sha->block, 1);
  }
  compress(sha->state, from, bytes / 64);
  memcpy(sha->block, from + bytes / 64 * 64, bytes % 64);
}

void sha256_hex(struct sha256 *sha, char hex[65]) {
  size_t held = sha->bytes % 64;
  uint64_t bits = __builtin_bswap64(sha->bytes * 8);
  sha->block[held++] = 0x80;
  if (held > 56) {
    memset(sha->block + held, 0, 64 - held);
    compress(sha->state, sha->block, 1);
    held = 0;
  }
  memset(sha->block + held, 0, 56 - held);
  memcpy(sha->block + 56, &bits, 8);
  compress(sha->state, sha->block, 1);
  for (int i = 0; i < 8; i++) sprintf(hex + 8 * i, "%08x", sha->state[i]);
}

void sha256_of(const void *data, size_t bytes, char hex[65]) {
  struct sha256 sha;
  sha256_start(&sha);
  sha256_add(&sha, data, bytes);
  sha256_hex(&sha, hex);
}
