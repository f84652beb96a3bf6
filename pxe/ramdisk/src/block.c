/* Block devices: O_DIRECT so that a 4 GiB wipe neither fills memory nor lies in a cache, and zeros that are guaranteed zeros. */
#include "ingot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGN 4096

bool block_open(struct block *block, const char *path, bool for_writing) {
  memset(block, 0, sizeof *block);
  int flags = (for_writing ? O_RDWR | O_EXCL : O_RDONLY) | O_CLOEXEC; /* O_EXCL: refuses a device that is mounted or otherwise held */
  block->fd = open(path, flags | O_DIRECT);
  if (block->fd < 0 && errno == EINVAL) block->fd = open(path, flags);
  if (block->fd < 0) return false;
  struct stat stat;
  int sector = 512;
  if (fstat(block->fd, &stat)) return false;
  if (S_ISBLK(stat.st_mode)) {
    if (ioctl(block->fd, BLKGETSIZE64, &block->size_bytes) || ioctl(block->fd, BLKSSZGET, &sector)) return false;
  } else
    block->size_bytes = (uint64_t)stat.st_size;
  block->sector_bytes = (unsigned)sector;
  return true;
}

void *block_buffer(size_t bytes) {
  void *buffer = NULL;
  return posix_memalign(&buffer, ALIGN, bytes) ? NULL : buffer;
}

bool block_read(struct block *block, void *to, size_t bytes, uint64_t at) {
  unsigned char *into = to;
  while (bytes) {
    ssize_t got = pread(block->fd, into, bytes, (off_t)at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into += got, at += (uint64_t)got, bytes -= (size_t)got;
  }
  return true;
}

bool block_write(struct block *block, const void *from, size_t bytes, uint64_t at) {
  const unsigned char *data = from;
  while (bytes) {
    ssize_t put = pwrite(block->fd, data, bytes, (off_t)at);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    data += put, at += (uint64_t)put, bytes -= (size_t)put;
  }
  return true;
}

/*
 * Writes zeros. BLKZEROOUT keeps its promise on any device: the kernel offloads it where the device guarantees the result
 * (WRITE ZEROES, WRITE SAME) and writes zero pages itself everywhere else. A discard alone promises nothing and is never used for this.
 */
bool block_zero(struct block *block, uint64_t at, uint64_t bytes) {
  uint64_t range[2] = {at, bytes};
  if (!block->plain_writes_only && ioctl(block->fd, BLKZEROOUT, range) == 0) return true;
  static const size_t step = 4 * MIB;
  void *zeros = block_buffer(step);
  if (!zeros) return false;
  memset(zeros, 0, step);
  bool written = true;
  for (; written && bytes; at += step) {
    size_t now = bytes < step ? (size_t)bytes : step;
    written = block_write(block, zeros, now, at);
    bytes -= now;
  }
  free(zeros);
  return written;
}
