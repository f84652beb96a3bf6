/*
 * `write URL BEARER MANIFEST DIGEST HOLD DEVICE`: puts an image on a disk, all but its first MiB.
 *
 * Two threads, each with a connection of its own, take the next chunk and carry it all the way: fetch (HTTP Range), check the SHA-256 of
 * the stored bytes, only then decompress, write with O_DIRECT. A broken connection costs that thread its one chunk, which it asks for again.
 *
 * The order on the disk is what makes a torn write harmless: first the old partition table's places (first and last MiB) are zeroed and
 * flushed; then everything after the first MiB is written and flushed; the first MiB goes to the file HOLD. The agent then puts the
 * machine's own files into the root file system, and `seal HOLD DEVICE` writes the first MiB. Until that moment nothing can boot from here.
 *
 * Chunks of zeros are written as zeros, always: what an unwritten block holds is not known.
 */
#include "manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define THREADS 2
#define PATIENCE_S 300 /* without one byte of progress from the server */
#define DIGEST_TRIES 3
#define REPORT_EACH_S 3

static struct {
  pthread_mutex_t lock;
  struct manifest manifest;
  struct block block;
  const char *url, *bearer_file;
  uint64_t next, done;
  time_t reported;
  atomic_bool failed;
  unsigned char *first_mib;
} job = {.lock = PTHREAD_MUTEX_INITIALIZER};

static time_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec;
}

static void fail_job(const char *cause, const char *detail, uint64_t index) {
  pthread_mutex_lock(&job.lock);
  if (!job.failed) fail(cause, "chunk %llu: %s", (unsigned long long)index, detail);
  job.failed = true;
  pthread_mutex_unlock(&job.lock);
}

/* The next chunk, or the next run of zero chunks, as [*index, *until). False when nothing is left or the job failed. */
static bool take(uint64_t *index, uint64_t *until) {
  pthread_mutex_lock(&job.lock);
  bool left = !job.failed && job.next < job.manifest.count;
  if (left) {
    *index = job.next++;
    if (job.manifest.chunks[*index].stored_bytes == 0)
      while (job.next < job.manifest.count && job.manifest.chunks[job.next].stored_bytes == 0) job.next++;
    *until = job.next;
  }
  pthread_mutex_unlock(&job.lock);
  return left;
}

static void report(uint64_t chunks) {
  pthread_mutex_lock(&job.lock);
  job.done += chunks;
  if (now() - job.reported >= REPORT_EACH_S && !job.failed) {
    printf("progress write %llu image\n", (unsigned long long)(job.done * 100 / job.manifest.count));
    job.reported = now();
  }
  pthread_mutex_unlock(&job.lock);
}

static size_t raw_bytes(uint64_t index) {
  uint64_t left = job.manifest.size_bytes - index * CHUNK_BYTES;
  return (size_t)(left < CHUNK_BYTES ? left : CHUNK_BYTES);
}

enum fetched { FETCHED, BROKEN, REFUSED };

/* One try at a chunk's stored bytes. `*bytes` says how far it came. */
static enum fetched fetch(struct http *http, const struct chunk *chunk, unsigned char *to, size_t *bytes, int *status) {
  char path[128], range[128];
  snprintf(path, sizeof path, "/artefacts/%s", job.manifest.data);
  snprintf(range, sizeof range, "Range: bytes=%llu-%llu\r\n", (unsigned long long)chunk->stored_offset,
           (unsigned long long)chunk->stored_offset + chunk->stored_bytes - 1);
  *bytes = 0;
  *status = http_ask(http, "GET", path, range, NULL, 0);
  if (*status != 206) {
    http_close(http);
    return *status >= 200 && *status < 500 ? REFUSED : BROKEN;
  }
  ssize_t got;
  while (*bytes < chunk->stored_bytes && (got = http_read(http, to + *bytes, chunk->stored_bytes - *bytes)) > 0) *bytes += (size_t)got;
  if (*bytes < chunk->stored_bytes || http_read(http, &(char){0}, 1) != 0) {
    http_close(http); /* short, or longer than what was asked for */
    return BROKEN;
  }
  return FETCHED;
}

/* Fetches until the bytes have the digest of the manifest. Waits 0.1 s, doubling to 5 s, while the server is away. */
static bool fetch_checked(struct http *http, uint64_t index, unsigned char *stored) {
  const struct chunk *chunk = &job.manifest.chunks[index];
  time_t last_progress = now();
  useconds_t pause_us = 100000;
  int wrong = 0, status;
  for (;;) {
    size_t bytes;
    enum fetched result = fetch(http, chunk, stored, &bytes, &status);
    if (job.failed) return false;
    char detail[128], digest[65];
    if (result == REFUSED) {
      snprintf(detail, sizeof detail, "the server answered %d to a range request", status);
      return fail_job("IMAGE_UNAVAILABLE", detail, index), false;
    }
    if (result == FETCHED) {
      sha256_of(stored, chunk->stored_bytes, digest);
      if (!strcmp(digest, chunk->digest)) return true;
      http_close(http);
      if (++wrong == DIGEST_TRIES) return fail_job("IMAGE_CHECKSUM", "its bytes do not have the digest that the manifest names", index), false;
      continue;
    }
    if (bytes) last_progress = now(), pause_us = 100000;
    if (now() - last_progress > PATIENCE_S) return fail_job("IMAGE_UNREACHABLE", "the boot server did not answer for 300 s", index), false;
    usleep(pause_us);
    pause_us = pause_us * 2 < 5000000 ? pause_us * 2 : 5000000;
  }
}

/* Writes `bytes` at the chunk's place; of the first chunk all but the held MiB. */
static bool place(uint64_t index, const unsigned char *raw, size_t bytes) {
  size_t skip = index == 0 ? MIB : 0;
  if (index == 0) memcpy(job.first_mib, raw, MIB);
  return block_write(&job.block, raw + skip, bytes - skip, index * CHUNK_BYTES + skip);
}

static bool place_zeros(uint64_t index, uint64_t until) {
  uint64_t from = index == 0 ? MIB : index * CHUNK_BYTES, end = (until - 1) * CHUNK_BYTES + raw_bytes(until - 1);
  return block_zero(&job.block, from, end - from);
}

static void *work(void *unused) {
  (void)unused;
  struct http *http = malloc(sizeof *http);
  unsigned char *stored = block_buffer(CHUNK_BYTES), *raw = block_buffer(CHUNK_BYTES);
  uint64_t index, until;
  if (!http || !stored || !raw || !http_init(http, job.url, job.bearer_file)) return fail_job("WRITE_FAILED", "no memory", 0), NULL;
  while (take(&index, &until)) {
    uint32_t stored_bytes = job.manifest.chunks[index].stored_bytes;
    size_t bytes = raw_bytes(index);
    bool written;
    if (stored_bytes == 0)
      written = place_zeros(index, until);
    else {
      if (!fetch_checked(http, index, stored)) break;
      bool as_is = stored_bytes == bytes;
      if (!as_is && lz4_decode(stored, stored_bytes, raw, bytes) != (ssize_t)bytes) {
        fail_job("IMAGE_INVALID", "it has the right digest but does not decompress", index);
        break;
      }
      written = place(index, as_is ? stored : raw, bytes);
    }
    if (!written) {
      fail_job("WRITE_FAILED", strerror(errno), index);
      break;
    }
    report(until - index);
  }
  http_close(http);
  free(http);
  free(stored);
  free(raw);
  return NULL;
}

static bool save(const char *path, const void *data, size_t bytes) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  bool saved = write(fd, data, bytes) == (ssize_t)bytes;
  return close(fd) == 0 && saved;
}

int cmd_write(int argc, char **argv) {
  if (argc != 7) return 2;
  const char *digest = argv[4], *hold = argv[5], *device = argv[6];
  char actual[65];
  size_t bytes;
  unsigned char *text = read_whole(argv[3], 64 * MIB, &bytes);
  if (!text) return fail("IMAGE_INVALID", "the manifest cannot be read");
  sha256_of(text, bytes, actual);
  if (strcmp(digest, "-") && strcmp(digest, actual)) return fail("IMAGE_CHECKSUM", "the manifest has digest %s", actual);
  if (!parse_manifest((char *)text, &job.manifest)) return fail("IMAGE_INVALID", "not a whole ingot-image-1 manifest in line form");
  job.url = argv[1], job.bearer_file = argv[2];
  if (!block_open(&job.block, device, true)) return fail("WRITE_FAILED", "%s: %s", device, strerror(errno));
  if (job.block.size_bytes < job.manifest.size_bytes + MIB)
    return fail("DISK_TOO_SMALL", "%s has %llu bytes, the image %llu", device, (unsigned long long)job.block.size_bytes,
                (unsigned long long)job.manifest.size_bytes);
  if (job.block.sector_bytes != 512) return fail("DISK_SECTOR_SIZE", "%s has sectors of %u bytes, the image of 512", device, job.block.sector_bytes);
  job.first_mib = block_buffer(MIB);
  if (!job.first_mib) return fail("WRITE_FAILED", "no memory");
  memset(job.first_mib, 0, MIB);
  if (!block_zero(&job.block, 0, MIB) || !block_zero(&job.block, job.block.size_bytes - MIB, MIB) || fsync(job.block.fd))
    return fail("WRITE_FAILED", "%s: cannot clear the old partition table: %s", device, strerror(errno));

  pthread_t threads[THREADS];
  job.reported = now();
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&threads[i], NULL, work, NULL)) return fail("WRITE_FAILED", "cannot start a thread");
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  if (job.failed) return 1;
  if (fsync(job.block.fd)) return fail("WRITE_FAILED", "%s: flush failed: %s", device, strerror(errno));
  ioctl(job.block.fd, BLKFLSBUF, 0);
  if (!save(hold, job.first_mib, MIB)) return fail("WRITE_FAILED", "cannot keep the first MiB: %s", strerror(errno));
  printf("written %llu\nimage_digest %s\nroot_offset %llu\nroot_bytes %llu\n", (unsigned long long)job.manifest.size_bytes, actual,
         (unsigned long long)job.manifest.root_offset, (unsigned long long)job.manifest.root_bytes);
  return 0;
}

/* `seal HOLD DEVICE`: the first MiB, flushed and read back. From now on the disk boots. */
int cmd_seal(int argc, char **argv) {
  if (argc != 3) return 2;
  size_t bytes = 0;
  struct block block;
  unsigned char *held = read_whole(argv[1], MIB, &bytes), *buffer = block_buffer(MIB);
  if (!held || !buffer || bytes != MIB) return fail("WRITE_FAILED", "the first MiB is not there");
  if (!block_open(&block, argv[2], true)) return fail("WRITE_FAILED", "%s: %s", argv[2], strerror(errno));
  memcpy(buffer, held, MIB);
  if (fsync(block.fd) || !block_write(&block, buffer, MIB, 0) || fsync(block.fd)) return fail("WRITE_FAILED", "%s: %s", argv[2], strerror(errno));
  ioctl(block.fd, BLKFLSBUF, 0);
  memset(buffer, 0, MIB);
  if (!block_read(&block, buffer, MIB, 0) || memcmp(buffer, held, MIB)) return fail("WRITE_FAILED", "the first MiB does not read back as it was written");
  close(block.fd);
  printf("sealed %s\n", argv[2]);
  return 0;
}
