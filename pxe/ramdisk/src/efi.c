/*
 * `efi DEVICE`: makes firmware boot this disk next, through efivarfs (UEFI §3.3, §3.1.3, §10.3).
 *
 * Writes one load option named `Ingot` for the disk's EFI system partition, puts it in BootOrder right after the option that was booted
 * now (the network stays first, so that the next power-on asks Ingot again and its `exit` falls through to this disk without the long
 * tour of other network boots), and sets BootNext to it.
 */
#include "ingot.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VARIABLES "/sys/firmware/efi/efivars"
#define GLOBAL "8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define ATTRIBUTES 7u /* non-volatile, boot service access, runtime access */
#define LABEL "Ingot"
#define LOADER "\\EFI\\BOOT\\BOOTX64.EFI"
#define MAX_ORDER 512

struct bytes {
  unsigned char data[1024];
  size_t length;
};

static void put(struct bytes *to, uint64_t value, int count) {
  for (; count--; value >>= 8) to->data[to->length++] = (unsigned char)value;
}

static void put_text16(struct bytes *to, const char *text) {
  do put(to, (unsigned char)*text, 2);
  while (*text++);
}

static ssize_t read_variable(const char *name, void *to, size_t room) {
  char path[256];
  unsigned char raw[4096];
  snprintf(path, sizeof path, VARIABLES "/%s-" GLOBAL, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t got = read(fd, raw, sizeof raw);
  close(fd);
  if (got < 4 || (size_t)got - 4 > room) return -1;
  memcpy(to, raw + 4, (size_t)got - 4);
  return got - 4;
}

/* efivarfs takes a variable in one write, attributes first, and marks some as immutable against careless `rm`. */
static bool write_variable(const char *name, const void *data, size_t bytes) {
  char path[256];
  unsigned char raw[4 + sizeof((struct bytes *)0)->data + 2 * MAX_ORDER] = {ATTRIBUTES};
  if (bytes > sizeof raw - 4) return false;
  memcpy(raw + 4, data, bytes);
  snprintf(path, sizeof path, VARIABLES "/%s-" GLOBAL, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC), flags;
  if (fd >= 0) {
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && flags & FS_IMMUTABLE_FL) {
      flags &= ~FS_IMMUTABLE_FL;
      ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    close(fd);
  }
  fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  bool written = write(fd, raw, bytes + 4) == (ssize_t)bytes + 4;
  close(fd);
  return written;
}

static void build_load_option(struct bytes *option, const struct esp *esp) {
  struct bytes path = {.length = 0};
  put(&path, 0x04, 1), put(&path, 0x01, 1), put(&path, 42, 2); /* hard drive media path */
  put(&path, esp->number, 4), put(&path, esp->first_lba, 8), put(&path, esp->sectors, 8);
  memcpy(path.data + path.length, esp->guid, 16), path.length += 16;
  put(&path, 2, 1), put(&path, 2, 1);                                          /* GPT, signature is a GUID */
  put(&path, 0x04, 1), put(&path, 0x04, 1), put(&path, 4 + 2 * sizeof LOADER, 2); /* file path */
  put_text16(&path, LOADER);
  put(&path, 0x7f, 1), put(&path, 0xff, 1), put(&path, 4, 2); /* end */
  option->length = 0;
  put(option, 1, 4), put(option, path.length, 2); /* active */
  put_text16(option, LABEL);
  memcpy(option->data + option->length, path.data, path.length), option->length += path.length;
}

/* The number of our own option from an earlier install, else the lowest free one; -1 when there is neither. */
static int choose_number(void) {
  struct bytes ours = {.length = 0};
  put_text16(&ours, LABEL);
  int free_number = -1;
  for (int number = 0; number < 0x1000; number++) {
    char name[16];
    unsigned char option[2048];
    snprintf(name, sizeof name, "Boot%04X", number);
    ssize_t bytes = read_variable(name, option, sizeof option);
    if (bytes < 0 && free_number < 0 && access(VARIABLES, R_OK) == 0) {
      char path[256];
      snprintf(path, sizeof path, VARIABLES "/%s-" GLOBAL, name);
      if (access(path, F_OK)) free_number = number;
    }
    if (bytes >= (ssize_t)(6 + ours.length) && !memcmp(option + 6, ours.data, ours.length)) return number;
    if (bytes < 0 && number > 0x40 && free_number >= 0) break; /* firmware hands numbers out from zero */
  }
  return free_number;
}

int cmd_efi(int argc, char **argv) {
  if (argc != 2) return 2;
  struct block block;
  struct esp esp;
  struct bytes option;
  if (!block_open(&block, argv[1], false)) return fail("LOCAL_BOOT_FAILED", "cannot read %s", argv[1]);
  unsigned char *first = block_buffer(MIB);
  if (!first || !block_read(&block, first, MIB, 0) || !find_esp(first, block.sector_bytes, &esp))
    return fail("LOCAL_BOOT_FAILED", "%s has no EFI system partition", argv[1]);
  int number = choose_number();
  if (number < 0) return fail("LOCAL_BOOT_FAILED", "firmware variables cannot be read");
  char name[16];
  snprintf(name, sizeof name, "Boot%04X", number);
  build_load_option(&option, &esp);
  if (!write_variable(name, option.data, option.length)) return fail("LOCAL_BOOT_FAILED", "firmware refused %s", name);

  uint16_t old[MAX_ORDER], order[MAX_ORDER + 1], current = 0xffff, ours = (uint16_t)number;
  ssize_t bytes = read_variable("BootOrder", old, sizeof old);
  size_t count = bytes > 0 ? (size_t)bytes / 2 : 0, length = 0;
  if (read_variable("BootCurrent", &current, sizeof current) != sizeof current) current = 0xffff;
  for (size_t i = 0; i < count; i++)
    if (old[i] == current && current != ours) order[length++] = current;
  order[length++] = ours;
  for (size_t i = 0; i < count; i++)
    if (old[i] != ours && old[i] != current) order[length++] = old[i];
  if (!write_variable("BootOrder", order, 2 * length)) return fail("LOCAL_BOOT_FAILED", "firmware refused BootOrder");
  if (!write_variable("BootNext", &ours, sizeof ours)) return fail("LOCAL_BOOT_FAILED", "firmware refused BootNext");
  printf("efi %s\n", name);
  return 0;
}
