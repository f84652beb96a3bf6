/* The line form of an image manifest. */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "ingot.h"

#define CHUNK_BYTES (4 * MIB)

struct chunk {
  uint64_t stored_offset;
  uint32_t stored_bytes; /* 0: all zero; equal to the chunk's own size: stored as it is; less: one LZ4 block */
  char digest[65];
};
struct manifest {
  uint64_t size_bytes, chunk_bytes, root_offset, root_bytes, count;
  char data[65];
  struct chunk *chunks;
};

/* Changes `text`. False when the manifest is not whole and consistent. */
bool parse_manifest(char *text, struct manifest *manifest);

#endif
