/*
 * `burn memory SECONDS PERCENT MIN_MB_S [flip]`, `burn cpu SECONDS MIN_MB_S`, `burn disks SECONDS MIN_MB_S`: works the machine hard and
 * checks what it gives back. Disks are opened for reading only.
 *
 * memory  threads share PERCENT of what is free; each fills its part with words made from their place and a round's number, then reads
 *         them all back. At least one whole round, whatever the time. `flip` turns one bit in between: the check must find it.
 * cpu     every thread digests the same MiB again and again; a digest that differs from the first is a broken processor.
 * disks   every disk is read from its beginning, all at once; a byte that cannot be read is a broken disk.
 *
 * Prints `burned JSON`, or `failed TEST_MEMORY|TEST_CPU|TEST_DISK|TEST_TOO_SLOW detail`. MB are 1e6 bytes; speeds are sums over threads,
 * of memory written plus read.
 */
#include "ingot.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 256
#define READ_STEP (4 * MIB)

struct burner {
  pthread_t thread;
  size_t bytes;
  double until, took;
  uint64_t done;
  bool flip;
  struct disk disk;
  char failure[256];
};

static struct burner burners[MAX_THREADS];

static double now_s(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static uint64_t free_bytes(void) {
  char text[4096];
  unsigned long long kib = 0;
  if (!read_text(text, sizeof text, "/proc/meminfo")) return 0;
  const char *at = strstr(text, "MemAvailable:");
  return at && sscanf(at, "MemAvailable: %llu kB", &kib) == 1 ? kib * 1024 : 0;
}

/* A word that neither a stuck bit nor a crossed address line gives by itself (splitmix64's finalizer). */
static uint64_t word_of(uint64_t place, uint64_t round) {
  uint64_t x = place * 0x9e3779b97f4a7c15ull + round * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  return x ^ (x >> 27);
}

static void *burn_memory(void *argument) {
  struct burner *me = argument;
  size_t words = me->bytes / sizeof(uint64_t);
  volatile uint64_t *memory = mmap(NULL, me->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    snprintf(me->failure, sizeof me->failure, "%zu bytes could not be had", me->bytes);
    return NULL;
  }
  double began = now_s();
  for (uint64_t round = 0; !*me->failure && (round == 0 || now_s() < me->until); round++) {
    for (size_t i = 0; i < words; i++) memory[i] = word_of(i, round);
    if (me->flip && words) memory[words / 2] ^= 1ull << 17;
    for (size_t i = 0; i < words; i++) {
      uint64_t wanted = word_of(i, round), got = memory[i];
      if (got == wanted) continue;
      snprintf(me->failure, sizeof me->failure, "word %zu of %zu in round %llu reads %016llx, not %016llx", i, words,
               (unsigned long long)round, (unsigned long long)got, (unsigned long long)wanted);
      break;
    }
    me->done += 2 * me->bytes;
  }
  me->took = now_s() - began;
  munmap((void *)memory, me->bytes);
  return NULL;
}

static unsigned char digested[MIB];
static char expected[65];

static void *burn_cpu(void *argument) {
  struct burner *me = argument;
  double began = now_s();
  do {
    char hex[65];
    sha256_of(digested, sizeof digested, hex);
    if (strcmp(hex, expected)) snprintf(me->failure, sizeof me->failure, "a digest came out as %s, not %s", hex, expected);
    me->done += sizeof digested;
  } while (!*me->failure && now_s() < me->until);
  me->took = now_s() - began;
  return NULL;
}

static void *burn_disk(void *argument) {
  struct burner *me = argument;
  struct block block;
  char path[128];
  unsigned char *buffer = block_buffer(READ_STEP);
  snprintf(path, sizeof path, "/dev/%s", me->disk.name);
  if (!buffer || !block_open(&block, path, false)) {
    snprintf(me->failure, sizeof me->failure, "%s cannot be opened", me->disk.name);
    free(buffer);
    return NULL;
  }
  double began = now_s();
  for (uint64_t at = 0; block.size_bytes && (at == 0 || now_s() < me->until);) {
    size_t bytes = block.size_bytes - at < READ_STEP ? (size_t)(block.size_bytes - at) : READ_STEP;
    if (!block_read(&block, buffer, bytes, at)) {
      snprintf(me->failure, sizeof me->failure, "%s cannot be read at byte %llu", me->disk.name, (unsigned long long)at);
      break;
    }
    me->done += bytes;
    at = at + bytes < block.size_bytes ? at + bytes : 0;
    if (at == 0 && now_s() >= me->until) break;
  }
  me->took = now_s() - began;
  close(block.fd);
  free(buffer);
  return NULL;
}

static double speed_of(const struct burner *burner) {
  return burner->took > 0 ? (double)burner->done / 1e6 / burner->took : 0;
}

/* Runs `count` burners at once. */
static bool run_all(size_t count, double seconds, void *(*work)(void *)) {
  double until = now_s() + seconds;
  size_t started = 0;
  for (; started < count; started++) {
    burners[started].until = until;
    if (pthread_create(&burners[started].thread, NULL, work, &burners[started])) break;
  }
  for (size_t i = 0; i < started; i++) pthread_join(burners[i].thread, NULL);
  return started == count;
}

static const char *first_failure(size_t count) {
  for (size_t i = 0; i < count; i++)
    if (*burners[i].failure) return burners[i].failure;
  return NULL;
}

static size_t thread_count(void) {
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : online > MAX_THREADS ? MAX_THREADS : (size_t)online;
}

static int end_of(const char *what, const char *cause, size_t count, double least, uint64_t bytes) {
  const char *failure = first_failure(count);
  if (failure) return fail(cause, "%s", failure);
  double speed = 0;
  for (size_t i = 0; i < count; i++) speed += speed_of(&burners[i]);
  if (speed < least) return fail("TEST_TOO_SLOW", "%s reached %.0f MB/s of the %.0f that were asked for", what, speed, least);
  printf("burned {\"threads\":%zu,\"bytes\":%llu,\"mb_s\":%.0f}\n", count, (unsigned long long)bytes, speed);
  return 0;
}

static int end_of_disks(size_t count, double least) {
  const char *failure = first_failure(count);
  if (failure) return fail("TEST_DISK", "%s", failure);
  for (size_t i = 0; i < count; i++)
    if (speed_of(&burners[i]) < least)
      return fail("TEST_TOO_SLOW", "%s read %.0f MB/s of the %.0f that were asked for", burners[i].disk.name, speed_of(&burners[i]), least);
  printf("burned [");
  for (size_t i = 0; i < count; i++) {
    printf("%s{\"name\":", i ? "," : "");
    json_text(stdout, burners[i].disk.name);
    printf(",\"serial\":");
    json_text(stdout, burners[i].disk.serial);
    printf(",\"bytes\":%llu,\"mb_s\":%.0f}", (unsigned long long)burners[i].done, speed_of(&burners[i]));
  }
  printf("]\n");
  return 0;
}

int cmd_burn(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  double seconds = argc > 2 ? atof(argv[2]) : 0;
  if (!strcmp(what, "memory") && argc >= 5) {
    size_t count = thread_count(), share = (size_t)(free_bytes() / 100 * (uint64_t)atoi(argv[3]) / count) & ~(size_t)4095;
    if (share == 0) return fail("TEST_MEMORY", "there is no free memory to test");
    for (size_t i = 0; i < count; i++) burners[i].bytes = share;
    burners[0].flip = argc > 5 && !strcmp(argv[5], "flip");
    if (!run_all(count, seconds, burn_memory)) return fail("TEST_MEMORY", "cannot start a thread");
    return end_of("memory", "TEST_MEMORY", count, atof(argv[4]), count * share);
  }
  if (!strcmp(what, "cpu") && argc == 4) {
    size_t count = thread_count();
    for (size_t i = 0; i < sizeof digested; i++) digested[i] = (unsigned char)word_of(i, 1);
    sha256_of(digested, sizeof digested, expected);
    if (!run_all(count, seconds, burn_cpu)) return fail("TEST_CPU", "cannot start a thread");
    return end_of("the processors", "TEST_CPU", count, atof(argv[3]), sizeof digested);
  }
  if (!strcmp(what, "disks") && argc == 4) {
    static struct disk disks[MAX_DISKS];
    size_t count = list_disks(disks, MAX_THREADS);
    for (size_t i = 0; i < count; i++) burners[i].disk = disks[i];
    if (!run_all(count, seconds, burn_disk)) return fail("TEST_DISK", "cannot start a thread");
    return end_of_disks(count, atof(argv[3]));
  }
  return 2;
}
