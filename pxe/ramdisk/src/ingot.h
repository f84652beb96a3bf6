/*
 * The ramdisk's one native program, `ingot-ramdisk`: what a shell cannot do safely or quickly.
 * Every subcommand prints plain lines on stdout for the agent's shell to read, and on failure one line `failed CAUSE detail`.
 * Linux and libc only; linked statically.
 */
#ifndef INGOT_H
#define INGOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define MIB 1048576ull
#define GIB (1024 * MIB)

/* Subcommands. */
int cmd_http(int argc, char **argv);
int cmd_facts(int argc, char **argv);
int cmd_find(int argc, char **argv);
int cmd_write(int argc, char **argv);
int cmd_seal(int argc, char **argv);
int cmd_wipe(int argc, char **argv);
int cmd_efi(int argc, char **argv);
int cmd_quote(int argc, char **argv);
int cmd_burn(int argc, char **argv);

/* Prints `failed CAUSE detail` and returns 1, the exit status that goes with it. */
int fail(const char *cause, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* sha256.c */
struct sha256 {
  uint32_t state[8];
  uint64_t bytes;
  unsigned char block[64];
};
void sha256_start(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t bytes);
void sha256_hex(struct sha256 *sha, char hex[65]);
void sha256_of(const void *data, size_t bytes, char hex[65]);

/* lz4.c: bytes written to `out`, or -1 when the block is malformed or would not fit. Never reads or writes outside the buffers. */
ssize_t lz4_decode(const unsigned char *in, size_t in_bytes, unsigned char *out, size_t out_bytes);

/* json.c */
void json_string(FILE *out, const char *text, size_t bytes);
void json_text(FILE *out, const char *text_or_null);

/* http.c: HTTP/1.1 over IPv4, one keep-alive connection, no redirects. */
struct http {
  char host[256];
  char authority[300];
  char prefix[512];
  char bearer[256];
  int port;
  int fd;
  size_t at, have;
  long long left; /* body bytes still to come; -1 until close */
  bool chunked, keep;
  char buffer[65536];
};
bool http_init(struct http *http, const char *url, const char *bearer_file);
int http_ask(struct http *http, const char *method, const char *path, const char *headers, const void *body, size_t bytes);
ssize_t http_read(struct http *http, void *to, size_t bytes);
void http_close(struct http *http);

/* file.c */
bool read_text(char *to, size_t room, const char *format, ...) __attribute__((format(printf, 3, 4)));
unsigned char *read_whole(const char *path, size_t limit, size_t *bytes);
bool is_zero(const void *data, size_t bytes);

/* disk.c: the fixed disks of this machine. Removable media and anything behind a network are not among them. */
struct disk {
  char name[64];
  char serial[128];
  char wwn[128];
  char model[128];
  char transport[16];
  uint64_t size_bytes;
  unsigned sector_bytes;
  bool rotational;
};
size_t list_disks(struct disk *disks, size_t room);
#define MAX_DISKS 256

/* block.c */
struct block {
  int fd;
  uint64_t size_bytes;
  unsigned sector_bytes;
  bool plain_writes_only;
};
bool block_open(struct block *block, const char *path, bool for_writing);
bool block_read(struct block *block, void *to, size_t bytes, uint64_t at);
bool block_write(struct block *block, const void *from, size_t bytes, uint64_t at);
bool block_zero(struct block *block, uint64_t at, uint64_t bytes);
void *block_buffer(size_t bytes);

/* signature.c: what the first and last MiB look like; NULL when both are all zero. Only reads. */
const char *disk_signature(const char *path);

/* bmc.c */
struct bmc {
  char address[16];
  char mac[18];
  int channel;
};
bool read_bmc(struct bmc *bmc);

/* gpt.c: the EFI system partition in a GUID partition table, from the device's first MiB. */
struct esp {
  uint32_t number;
  uint64_t first_lba, sectors;
  unsigned char guid[16];
};
bool find_esp(const unsigned char *first_mib, unsigned sector_bytes, struct esp *esp);

#endif
