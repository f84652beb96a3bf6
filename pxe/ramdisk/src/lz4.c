/*
 * LZ4 block decoder, from the block format description: sequences of
 * token (literal length << 4 | match length - 4), literals, 16-bit little-endian offset, match; lengths of 15 go on in further bytes.
 * The input was checked by digest already; it is decoded as if it were hostile all the same.
 */
#include "ingot.h"

#include <string.h>

/* Adds the bytes that continue a length; false when the input ends first or the sum passes `most`. */
static bool more_length(const unsigned char **in, const unsigned char *end, size_t *length, size_t most) {
  unsigned byte;
  do {
    if (*in >= end) return false;
    byte = *(*in)++;
    *length += byte;
    if (*length > most) return false;
  } while (byte == 255);
  return true;
}

ssize_t lz4_decode(const unsigned char *in, size_t in_bytes, unsigned char *out, size_t out_bytes) {
  const unsigned char *end = in + in_bytes;
  unsigned char *to = out, *out_end = out + out_bytes;
  while (in < end) {
    unsigned token = *in++;
    size_t literals = token >> 4;
    if (literals == 15 && !more_length(&in, end, &literals, out_bytes)) return -1;
    if (literals > (size_t)(end - in) || literals > (size_t)(out_end - to)) return -1;
    if (literals <= 16 && end - in >= 16 && out_end - to >= 16)
      memcpy(to, in, 16); /* over-copies inside both buffers: one fixed move is much quicker than a short variable one */
    else
      memcpy(to, in, literals);
    to += literals, in += literals;
    if (in == end) return to - out; /* the last sequence has literals only */

    if (end - in < 2) return -1;
    size_t distance = in[0] | (size_t)in[1] << 8;
    in += 2;
    if (distance == 0 || distance > (size_t)(to - out)) return -1;
    size_t length = token & 15;
    if (length == 15 && !more_length(&in, end, &length, out_bytes)) return -1;
    length += 4;
    if (length > (size_t)(out_end - to)) return -1;
    const unsigned char *from = to - distance;
    if (distance >= 16 && length <= 32 && out_end - to >= 32) {
      memcpy(to, from, 16);
      memcpy(to + 16, from + 16, 16);
      to += length;
    } else if (distance >= length) {
      memcpy(to, from, length);
      to += length;
    } else if (distance == 1) {
      memset(to, *from, length);
      to += length;
    } else {
      /* Overlapping: each copy may at most repeat what is already there, so the copied part doubles. */
      while (length) {
        size_t step = (size_t)(to - from) < length ? (size_t)(to - from) : length;
        memcpy(to, from, step);
        to += step, length -= step;
      }
    }
  }
  return -1;
}
