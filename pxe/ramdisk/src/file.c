/* Small files of /sys and /proc, and whole files. */
#include "ingot.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads one small file as text without surrounding white space. NUL bytes end it. False, and empty, when it cannot be read. */
bool read_text(char *to, size_t room, const char *format, ...) {
  char path[512];
  va_list args;
  va_start(args, format);
  vsnprintf(path, sizeof path, format, args);
  va_end(args);
  *to = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t bytes = read(fd, to, room - 1);
  close(fd);
  if (bytes < 0) return false;
  to[bytes] = 0;
  size_t skip = strspn(to, " \t\r\n"), length = strlen(to + skip);
  while (length && strchr(" \t\r\n", to[skip + length - 1])) length--;
  memmove(to, to + skip, length);
  to[length] = 0;
  return true;
}

/* The whole file with a NUL after it, or NULL when it cannot be read or is larger than `limit`. */
unsigned char *read_whole(const char *path, size_t limit, size_t *bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NULL;
  off_t size = lseek(fd, 0, SEEK_END);
  unsigned char *data = size < 0 || (size_t)size > limit ? NULL : malloc((size_t)size + 1);
  if (data && pread(fd, data, (size_t)size, 0) != size) {
    free(data);
    data = NULL;
  }
  close(fd);
  if (!data) return NULL;
  data[size] = 0;
  *bytes = (size_t)size;
  return data;
}

bool is_zero(const void *data, size_t bytes) {
  const unsigned char *at = data;
  while (bytes >= 64) {
    uint64_t word[8];
    memcpy(word, at, 64);
    if (word[0] | word[1] | word[2] | word[3] | word[4] | word[5] | word[6] | word[7]) return false;
    at += 64, bytes -= 64;
  }
  while (bytes--)
    if (*at++) return false;
  return true;
}
