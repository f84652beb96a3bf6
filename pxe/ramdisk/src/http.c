/*
 * A small HTTP/1.1 client (RFC 9112) over IPv4: keep-alive, Content-Length and chunked bodies, bearer token, no redirects.
 * Names are looked up in /etc/hosts only; the agent puts the boot server there when its URL has a name.
 */
#include "ingot.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000
#define SILENCE_TIMEOUT_S 30

bool http_init(struct http *http, const char *url, const char *bearer_file) {
  memset(http, 0, sizeof *http);
  http->fd = -1;
  if (strncmp(url, "http://", 7)) return false;
  const char *authority = url + 7, *slash = strchrnul(authority, '/'), *colon = memchr(authority, ':', (size_t)(slash - authority));
  const char *host_end = colon ? colon : slash;
  if (host_end == authority || (size_t)(host_end - authority) >= sizeof http->host || strlen(slash) >= sizeof http->prefix) return false;
  memcpy(http->host, authority, (size_t)(host_end - authority));
  snprintf(http->authority, sizeof http->authority, "%.*s", (int)(slash - authority), authority);
  strcpy(http->prefix, slash);
  http->port = colon ? atoi(colon + 1) : 80;
  if (bearer_file && *bearer_file) read_text(http->bearer, sizeof http->bearer, "%s", bearer_file);
  return http->port > 0 && http->port < 65536;
}

void http_close(struct http *http) {
  if (http->fd >= 0) close(http->fd);
  http->fd = -1;
  http->at = http->have = 0;
}

static bool find_address(const char *host, struct in_addr *address) {
  if (inet_pton(AF_INET, host, address) == 1) return true;
  FILE *hosts = fopen("/etc/hosts", "re");
  char line[512];
  bool found = false;
  while (hosts && !found && fgets(line, sizeof line, hosts)) {
    char *rest = line, *first = strsep(&rest, " \t\n"), *name;
    while (!found && (name = strsep(&rest, " \t\n"))) found = !strcasecmp(name, host) && inet_pton(AF_INET, first, address) == 1;
  }
  if (hosts) fclose(hosts);
  return found;
}

static bool dial(struct http *http) {
  struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http->port)};
  if (!find_address(http->host, &peer.sin_addr)) return false;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  struct pollfd wait = {.fd = fd, .events = POLLOUT};
  int failure = 0;
  socklen_t length = sizeof failure;
  bool up = connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0 ||
            (errno == EINPROGRESS && poll(&wait, 1, CONNECT_TIMEOUT_MS) == 1 &&
             getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length) == 0 && failure == 0);
  if (!up) {
    close(fd);
    return false;
  }
  struct timeval silence = {.tv_sec = SILENCE_TIMEOUT_S};
  int one = 1, receive_bytes = 1 << 20;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  http->fd = fd;
  http->at = http->have = 0;
  return true;
}

static bool send_all(int fd, const void *data, size_t bytes) {
  const char *from = data;
  while (bytes) {
    ssize_t sent = send(fd, from, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    from += sent, bytes -= (size_t)sent;
  }
  return true;
}

static ssize_t receive(struct http *http, void *to, size_t bytes) {
  if (http->at == http->have && bytes >= sizeof http->buffer) { /* large body reads skip the buffer */
    ssize_t got;
    do got = recv(http->fd, to, bytes, 0);
    while (got < 0 && errno == EINTR);
    return got;
  }
  if (http->at == http->have) {
    ssize_t got;
    do got = recv(http->fd, http->buffer, sizeof http->buffer, 0);
    while (got < 0 && errno == EINTR);
    if (got <= 0) return got;
    http->at = 0, http->have = (size_t)got;
  }
  size_t take = http->have - http->at < bytes ? http->have - http->at : bytes;
  memcpy(to, http->buffer + http->at, take);
  http->at += take;
  return (ssize_t)take;
}

static bool read_line(struct http *http, char *line, size_t room) {
  size_t length = 0;
  char byte;
  while (receive(http, &byte, 1) == 1) {
    if (byte == '\n') {
      if (length && line[length - 1] == '\r') length--;
      line[length] = 0;
      return true;
    }
    if (length + 1 >= room) return false;
    line[length++] = byte;
  }
  return false;
}

/* Reads the head of one answer. Returns its status, or -1. */
static int read_head(struct http *http) {
  char line[4096];
  int status = -1, minor = 0;
  if (!read_line(http, line, sizeof line) || sscanf(line, "HTTP/1.%d %d", &minor, &status) != 2) return -1;
  http->left = -1;
  http->chunked = false;
  http->keep = minor >= 1;
  for (;;) {
    if (!read_line(http, line, sizeof line)) return -1;
    if (!*line) break;
    char *value = strchr(line, ':');
    if (!value) return -1;
    *value++ = 0;
    value += strspn(value, " \t");
    if (!strcasecmp(line, "content-length")) http->left = strtoll(value, NULL, 10);
    if (!strcasecmp(line, "transfer-encoding")) http->chunked = strcasestr(value, "chunked") != NULL;
    if (!strcasecmp(line, "connection") && !strcasecmp(value, "close")) http->keep = false;
  }
  if (http->chunked) http->left = 0;
  if (status == 204 || status == 304) http->left = 0, http->chunked = false;
  if (status >= 100 && status < 200) return read_head(http);
  return status;
}

static int ask_once(struct http *http, const char *method, const char *path, const char *headers, const void *body, size_t bytes) {
  char head[2048];
  int length = snprintf(head, sizeof head, "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: ingot-ramdisk\r\n%s%s%s%s", method, http->prefix,
                        path, http->authority, *http->bearer ? "Authorization: Bearer " : "", http->bearer, *http->bearer ? "\r\n" : "",
                        headers);
  if (length > 0 && (size_t)length < sizeof head && (bytes || !strcmp(method, "POST")))
    length += snprintf(head + length, sizeof head - (size_t)length, "Content-Length: %zu\r\n", bytes);
  if (length < 0 || (size_t)length + 3 > sizeof head) return -1;
  strcpy(head + length, "\r\n");
  if (!send_all(http->fd, head, (size_t)length + 2) || !send_all(http->fd, body, bytes)) return -1;
  return read_head(http);
}

/* Asks and reads the answer's head; its body follows by http_read. Returns the status, or -1 when there was no answer. */
int http_ask(struct http *http, const char *method, const char *path, const char *headers, const void *body, size_t bytes) {
  bool reused = http->fd >= 0;
  if (!reused && !dial(http)) return -1;
  int status = ask_once(http, method, path, headers, body, bytes);
  if (status < 0 && reused) { /* the server may have closed an idle connection: that is no failure yet */
    http_close(http);
    if (!dial(http)) return -1;
    status = ask_once(http, method, path, headers, body, bytes);
  }
  if (status < 0) http_close(http);
  return status;
}

/* Body bytes; 0 at its end, -1 when the connection broke before it. */
ssize_t http_read(struct http *http, void *to, size_t bytes) {
  char line[128];
  if (http->chunked && http->left == 0) {
    if (!read_line(http, line, sizeof line)) return -1;
    if (!*line && !read_line(http, line, sizeof line)) return -1; /* the line end after the previous chunk */
    if (!isxdigit((unsigned char)*line)) return -1;
    http->left = strtoll(line, NULL, 16);
    if (http->left == 0) {
      while (read_line(http, line, sizeof line) && *line) continue; /* trailers */
      http->chunked = false;
    }
  }
  if (http->left == 0) {
    if (!http->keep) http_close(http);
    return 0;
  }
  size_t most = http->left > 0 && (unsigned long long)http->left < bytes ? (size_t)http->left : bytes;
  ssize_t got = receive(http, to, most);
  if (got > 0 && http->left > 0) http->left -= got;
  if (got == 0 && http->left < 0) {
    http_close(http);
    return 0;
  }
  if (got <= 0) http_close(http);
  return got > 0 ? got : -1;
}

/*
 * `http METHOD URL BEARER_FILE BODY_FILE OUT_FILE LIMIT`: one request. BODY_FILE may be `-` for none.
 * Prints the status, `000` when there was no answer or it broke off. The body goes to OUT_FILE, which exists only if it is whole.
 */
int cmd_http(int argc, char **argv) {
  static struct http http;
  static unsigned char piece[65536];
  if (argc != 7) return 2;
  size_t bytes = 0, limit = strtoull(argv[6], NULL, 10), total = 0;
  unsigned char *body = strcmp(argv[4], "-") ? read_whole(argv[4], 16 * MIB, &bytes) : NULL;
  char part[512];
  snprintf(part, sizeof part, "%s.part", argv[5]);
  unlink(argv[5]);
  int status = -1;
  if (http_init(&http, argv[2], argv[3])) {
    const char *json = body && (body[0] == '{' || body[0] == '[') ? "Content-Type: application/json\r\n" : "Content-Type: text/plain\r\n";
    status = http_ask(&http, argv[1], "", body ? json : "", body, bytes);
  }
  FILE *out = status > 0 ? fopen(part, "we") : NULL;
  ssize_t got = -1;
  while (out && (got = http_read(&http, piece, sizeof piece)) > 0) {
    total += (size_t)got;
    if (total > limit || fwrite(piece, 1, (size_t)got, out) != (size_t)got) {
      got = -1;
      break;
    }
  }
  if (!out || fclose(out) || got < 0 || rename(part, argv[5])) status = 0;
  http_close(&http);
  printf("%03d\n", status < 0 ? 0 : status);
  return 0;
}
