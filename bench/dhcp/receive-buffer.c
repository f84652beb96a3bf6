/*
 * Preloaded into perfdhcp, and into the peers of the tuned rows: every datagram socket gets a receive buffer of 8 MiB when it is bound, as
 * an administrator arranges with net.core.rmem_default. With the 208 KiB that Linux gives, perfdhcp loses answers itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);

int bind(int fd, const struct sockaddr *address, socklen_t length) {
  int type = 0, bytes = 8 * 1024 * 1024;
  socklen_t size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type != SOCK_STREAM)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  return ((bind_function)dlsym(RTLD_NEXT, "bind"))(fd, address, length);
}
