/*
 * Parses the line form of an `ingot-image-1` manifest: `key value` lines, one `chunk OFFSET BYTES SHA256` or `zero` line for each chunk in
 * order, and a final `end`, so that a truncated manifest is never taken for a whole one.
 */
#include "manifest.h"

#include <stdlib.h>
#include <string.h>

static bool is_digest(const char *text) {
  return strspn(text, "0123456789abcdef") == 64 && text[64] == 0;
}

static bool add_chunk(struct manifest *manifest, const char *value) {
  if (manifest->count >= manifest->size_bytes / manifest->chunk_bytes + 1) return false;
  struct chunk *chunk = &manifest->chunks[manifest->count++];
  unsigned long long offset;
  unsigned bytes;
  if (!value) {
    chunk->stored_bytes = 0;
    return true;
  }
  if (sscanf(value, "%llu %u %64s", &offset, &bytes, chunk->digest) != 3 || !is_digest(chunk->digest)) return false;
  chunk->stored_offset = offset, chunk->stored_bytes = bytes;
  return bytes > 0 && bytes <= manifest->chunk_bytes;
}

bool parse_manifest(char *text, struct manifest *manifest) {
  bool ended = false;
  memset(manifest, 0, sizeof *manifest);
  char *line = strsep(&text, "\n");
  if (!line || strcmp(line, "ingot-image-1")) return false;
  while (!ended && (line = strsep(&text, "\n"))) {
    char *value = strchr(line, ' ');
    if (value) *value++ = 0;
    if (!strcmp(line, "chunk") || !strcmp(line, "zero")) {
      if (!manifest->chunks) {
        if (!manifest->size_bytes || manifest->chunk_bytes != CHUNK_BYTES || manifest->size_bytes > 1ull << 46) return false;
        manifest->chunks = calloc(manifest->size_bytes / CHUNK_BYTES + 1, sizeof *manifest->chunks);
      }
      if (!manifest->chunks || !add_chunk(manifest, *line == 'c' ? (value ? value : "") : NULL)) return false;
    } else if (!strcmp(line, "end"))
      ended = true;
    else if (value) {
      if (!strcmp(line, "compression") && strcmp(value, "lz4")) return false;
      if (!strcmp(line, "size_bytes")) manifest->size_bytes = strtoull(value, NULL, 10);
      if (!strcmp(line, "chunk_bytes")) manifest->chunk_bytes = strtoull(value, NULL, 10);
      if (!strcmp(line, "root_offset")) manifest->root_offset = strtoull(value, NULL, 10);
      if (!strcmp(line, "root_bytes")) manifest->root_bytes = strtoull(value, NULL, 10);
      if (!strcmp(line, "data") && is_digest(value)) strcpy(manifest->data, value);
    }
  }
  uint64_t expected = (manifest->size_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
  return ended && *manifest->data && manifest->count == expected && manifest->size_bytes % MIB == 0 && manifest->size_bytes >= 2 * MIB &&
         manifest->root_offset >= MIB && manifest->root_offset + manifest->root_bytes <= manifest->size_bytes;
}
