/*
 * `wipe full|fast`: zeros every fixed disk, one thread each, and proves it by reading back what the device then returns.
 *
 * full  discard (best effort, so that flash gives its blocks up), zero every byte, read every byte back. Above FULL_READ_BACK_LIMIT
 *       the read-back covers the first and last GiB and one MiB in each 16: `sample`.
 * fast  discard, zero the first and last 64 MiB, read back those and one MiB in each 64: `sample`. A disk that cannot discard, or
 *       whose samples are not zero, is wiped in full instead.
 * Bytes that do not read back as zero are written once more with plain writes; if they still do not, the wipe has failed.
 *
 * Prints `progress STEP PERCENT` lines and at the end the `disks` array of the `wiped` event on one line, after `wiped `.
 */
#include "ingot.h"

#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#define FULL_READ_BACK_LIMIT (2048 * GIB)
#define ZERO_STEP (256 * MIB)
#define READ_STEP (4 * MIB)

struct job {
  struct disk disk;
  struct block block;
  pthread_t thread;
  atomic_ullong zeroed, verified; /* bytes of the disk, for the progress lines */
  atomic_bool finished;
  char failure[256];
  bool discarded, plain, sampled;
};

static bool give_up(struct job *job, const char *what, uint64_t at) {
  snprintf(job->failure, sizeof job->failure, "%s: %s at byte %llu", job->disk.name, what, (unsigned long long)at);
  return false;
}

static bool zero_range(struct job *job, uint64_t from, uint64_t until) {
  for (uint64_t at = from; at < until;) {
    uint64_t bytes = until - at < ZERO_STEP ? until - at : ZERO_STEP;
    if (!block_zero(&job->block, at, bytes)) return give_up(job, "cannot write zeros", at);
    at += bytes;
    job->zeroed = at;
  }
  return true;
}

/* 1 all zero, 0 something else is there, -1 it cannot be read. */
static int zero_at(struct job *job, unsigned char *buffer, uint64_t from, uint64_t until) {
  for (uint64_t at = from; at < until;) {
    size_t bytes = until - at < READ_STEP ? (size_t)(until - at) : READ_STEP;
    if (!block_read(&job->block, buffer, bytes, at)) return give_up(job, "cannot read back", at), -1;
    if (!is_zero(buffer, bytes)) return give_up(job, "does not read back as zero", at), 0;
    at += bytes;
    job->verified = at;
  }
  return 1;
}

static int verify(struct job *job, uint64_t ends_bytes, uint64_t stride) {
  uint64_t size = job->block.size_bytes, jitter = 0;
  unsigned char *buffer = block_buffer(READ_STEP);
  if (!buffer) return give_up(job, "no memory", 0), -1;
  int zero;
  if (stride == 0 || size <= 4 * ends_bytes)
    zero = zero_at(job, buffer, 0, size);
  else {
    job->sampled = true;
    if (getrandom(&jitter, sizeof jitter, 0) != sizeof jitter) jitter = 0;
    zero = zero_at(job, buffer, 0, ends_bytes);
    for (uint64_t at = ends_bytes + jitter % (stride / MIB) * MIB; zero == 1 && at + MIB < size - ends_bytes; at += stride)
      zero = zero_at(job, buffer, at, at + MIB);
    if (zero == 1) zero = zero_at(job, buffer, size - ends_bytes, size);
  }
  free(buffer);
  return zero;
}

/* Everything reached the device and nothing of it is left in the page cache. */
static bool settle(struct job *job) {
  if (fsync(job->block.fd)) return give_up(job, "flush failed", 0);
  ioctl(job->block.fd, BLKFLSBUF, 0);
  return true;
}

static bool discard(struct job *job) {
  for (uint64_t at = 0; at < job->block.size_bytes; at += 4 * GIB) {
    uint64_t left = job->block.size_bytes - at, range[2] = {at, left < 4 * GIB ? left : 4 * GIB};
    if (ioctl(job->block.fd, BLKDISCARD, range)) return false;
  }
  return true;
}

static bool wipe_fast(struct job *job) {
  uint64_t size = job->block.size_bytes, ends = 64 * MIB;
  if (!job->discarded || size <= 4 * ends) return false;
  if (!zero_range(job, 0, ends) || !zero_range(job, size - ends, size) || !settle(job)) return false;
  return verify(job, ends, 64 * MIB) == 1;
}

static bool wipe_full(struct job *job) {
  bool huge = job->block.size_bytes > FULL_READ_BACK_LIMIT;
  job->sampled = false;
  for (int attempt = 0; attempt < 2; attempt++) {
    job->block.plain_writes_only = job->plain = attempt > 0;
    if (!zero_range(job, 0, job->block.size_bytes) || !settle(job)) return false;
    int zero = verify(job, GIB, huge ? 16 * MIB : 0);
    if (zero < 0) return false;
    if (zero == 1) return true;
  }
  return false;
}

static bool fast;

static void *wipe_disk(void *argument) {
  struct job *job = argument;
  char path[128];
  snprintf(path, sizeof path, "/dev/%s", job->disk.name);
  int read_only = 0;
  if (!block_open(&job->block, path, true))
    give_up(job, "cannot be opened for writing", 0);
  else if (ioctl(job->block.fd, BLKROGET, &read_only) == 0 && read_only)
    give_up(job, "is write-protected", 0);
  else {
    job->discarded = discard(job);
    if ((fast && wipe_fast(job)) || wipe_full(job)) *job->failure = 0;
  }
  if (job->block.fd >= 0) close(job->block.fd);
  job->finished = true;
  return NULL;
}

static void print_result(const struct job *jobs, size_t count) {
  printf("wiped [");
  for (size_t i = 0; i < count; i++) {
    const struct disk *disk = &jobs[i].disk;
    printf("%s{\"name\":", i ? "," : "");
    json_text(stdout, disk->name);
    printf(",\"serial\":");
    json_text(stdout, disk->serial);
    printf(",\"size_bytes\":%llu,\"method\":\"%s%s\",\"verified\":\"read_back\",\"sample_or_full\":\"%s\"}",
           (unsigned long long)disk->size_bytes, jobs[i].discarded ? "discard+" : "", jobs[i].plain ? "write" : "zeroout",
           jobs[i].sampled ? "sample" : "full");
  }
  printf("]\n");
}

int cmd_wipe(int argc, char **argv) {
  static struct disk disks[MAX_DISKS];
  static struct job jobs[MAX_DISKS];
  if (argc != 2 || (strcmp(argv[1], "full") && strcmp(argv[1], "fast"))) return 2;
  fast = !strcmp(argv[1], "fast");
  size_t count = list_disks(disks, MAX_DISKS), started = 0;
  if (count == 0) return fail("DISK_NOT_FOUND", "no disk was found: nothing is proven wiped");
  for (; started < count; started++) {
    jobs[started].disk = disks[started];
    if (pthread_create(&jobs[started].thread, NULL, wipe_disk, &jobs[started])) return fail("WIPE_FAILED", "cannot start a thread");
  }
  for (int last_percent = -1, tick = 0;; tick++) {
    uint64_t total = 0, zeroed = 0, verified = 0;
    bool finished = true;
    for (size_t i = 0; i < count; i++) {
      total += disks[i].size_bytes, zeroed += jobs[i].zeroed, verified += jobs[i].verified;
      finished = finished && jobs[i].finished;
    }
    int percent = total ? (int)((zeroed / 2 + verified / 2) / (total / 100 + 1)) : 100;
    if (tick % 20 == 10 && percent != last_percent) printf("progress %s %d %zu disks\n", verified ? "verify" : "wipe", last_percent = percent, count);
    if (finished) break;
    usleep(100000);
  }
  for (size_t i = 0; i < count; i++) pthread_join(jobs[i].thread, NULL);
  for (size_t i = 0; i < count; i++)
    if (*jobs[i].failure) return fail("WIPE_FAILED", "%s", jobs[i].failure);
  print_result(jobs, count);
  return 0;
}
