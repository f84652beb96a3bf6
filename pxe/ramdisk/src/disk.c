/*
 * The fixed disks of this machine, from /sys. Removable media (a BMC's virtual CD, card readers) and multipath or SAN devices are
 * left out on purpose: this list is also the list of what a wipe destroys. No Fibre Channel or iSCSI driver is in the ramdisk either.
 */
#include "ingot.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/hdreg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int by_name(const void *a, const void *b) {
  const char *x = ((const struct disk *)a)->name, *y = ((const struct disk *)b)->name;
  size_t i = strlen(x), j = strlen(y);
  return i == j ? strcmp(x, y) : (i < j ? -1 : 1); /* sdb before sdaa */
}

static bool is_disk_name(const char *name) {
  static const char *const prefixes[] = {"vd", "sd", "xvd", "hd", "nvme", "mmcblk"};
  if (!strncmp(name, "nvme", 4) && strchr(name + 4, 'c')) return false; /* hidden multipath paths, nvme0c0n1 */
  if (!strncmp(name, "mmcblk", 6) && strstr(name, "boot")) return false;
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
    if (!strncmp(name, prefixes[i], strlen(prefixes[i]))) return true;
  return false;
}

/* The unit serial number: VPD page 0x80 (SPC-4 §7.8.13), four bytes of header. ATA disks behind old drivers answer IDENTIFY only. */
static void scsi_serial(struct disk *disk) {
  char path[512];
  size_t bytes = 0;
  unsigned char page[256];
  snprintf(path, sizeof path, "/sys/block/%s/device/vpd_pg80", disk->name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    ssize_t got = read(fd, page, sizeof page);
    close(fd);
    if (got > 4) bytes = (size_t)got - 4 < page[3] ? (size_t)got - 4 : page[3];
    if (bytes >= sizeof disk->serial) bytes = sizeof disk->serial - 1;
    memcpy(disk->serial, page + 4, bytes);
    disk->serial[bytes] = 0;
  }
  struct hd_driveid identity;
  snprintf(path, sizeof path, "/dev/%s", disk->name);
  if (!*disk->serial && (fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) >= 0) {
    if (ioctl(fd, HDIO_GET_IDENTITY, &identity) == 0) snprintf(disk->serial, sizeof disk->serial, "%.20s", (char *)identity.serial_no);
    close(fd);
  }
}

static void trim(char *text) {
  size_t skip = strspn(text, " "), length = strlen(text + skip);
  while (length && text[skip + length - 1] == ' ') length--;
  memmove(text, text + skip, length);
  text[length] = 0;
}

static void describe_transport(struct disk *disk) {
  char link[512], path[600];
  snprintf(path, sizeof path, "/sys/block/%s", disk->name);
  ssize_t bytes = readlink(path, link, sizeof link - 1);
  link[bytes > 0 ? bytes : 0] = 0;
  const char *is = !strncmp(disk->name, "nvme", 4)     ? "nvme"
                   : !strncmp(disk->name, "mmcblk", 6) ? "mmc"
                   : strstr(link, "/virtio")           ? "virtio"
                   : strstr(link, "/usb")              ? "usb"
                   : strstr(link, "/ata")              ? "ata"
                   : strstr(link, "/end_device-")      ? "sas"
                   : strstr(link, "/host")             ? "scsi"
                                                       : "other";
  strcpy(disk->transport, is);
}

static bool describe(struct disk *disk, const char *name) {
  char text[256];
  memset(disk, 0, sizeof *disk);
  snprintf(disk->name, sizeof disk->name, "%s", name);
  if (!read_text(text, sizeof text, "/sys/block/%s/size", name)) return false;
  disk->size_bytes = strtoull(text, NULL, 10) * 512;
  if (read_text(text, sizeof text, "/sys/block/%s/removable", name) && !strcmp(text, "1")) return false;
  if (disk->size_bytes == 0) return false;
  disk->sector_bytes = read_text(text, sizeof text, "/sys/block/%s/queue/logical_block_size", name) ? (unsigned)atoi(text) : 512;
  disk->rotational = read_text(text, sizeof text, "/sys/block/%s/queue/rotational", name) && !strcmp(text, "1");
  read_text(disk->model, sizeof disk->model, "/sys/block/%s/device/model", name);
  describe_transport(disk);
  if (!read_text(disk->serial, sizeof disk->serial, "/sys/block/%s/serial", name) &&
      !read_text(disk->serial, sizeof disk->serial, "/sys/block/%s/device/serial", name))
    scsi_serial(disk);
  trim(disk->serial);
  /* SCSI's wwid is `naa.…`, `eui.…`, or a `t10.…` made of vendor, model and serial, which names no port of the world. */
  if (!read_text(disk->wwn, sizeof disk->wwn, "/sys/block/%s/wwid", name)) read_text(disk->wwn, sizeof disk->wwn, "/sys/block/%s/device/wwid", name);
  if (!strncmp(disk->wwn, "t10.", 4)) *disk->wwn = 0;
  return true;
}

size_t list_disks(struct disk *disks, size_t room) {
  DIR *folder = opendir("/sys/block");
  struct dirent *entry;
  size_t count = 0;
  while (folder && count < room && (entry = readdir(folder)))
    if (is_disk_name(entry->d_name) && describe(&disks[count], entry->d_name)) count++;
  if (folder) closedir(folder);
  qsort(disks, count, sizeof *disks, by_name);
  return count;
}

/* `find RULE`: prints `disk NAME` and `serial JSON` for `serial=S`, `wwn=W`, `name=N` or `smallest`. Two disks under one serial are nobody's choice. */
int cmd_find(int argc, char **argv) {
  static struct disk disks[MAX_DISKS];
  if (argc != 2) return 2;
  const char *rule = argv[1], *value = strchr(rule, '=');
  size_t count = list_disks(disks, MAX_DISKS), matches = 0;
  const struct disk *found = NULL;
  for (size_t i = 0; i < count; i++) {
    const struct disk *disk = &disks[i];
    if (!strcmp(rule, "smallest")) {
      if (!found || disk->size_bytes < found->size_bytes) found = disk;
      matches = 1;
    } else if (value && ((!strncmp(rule, "serial=", 7) && !strcmp(disk->serial, value + 1)) ||
                         (!strncmp(rule, "wwn=", 4) && !strcmp(disk->wwn, value + 1)) ||
                         (!strncmp(rule, "name=", 5) && !strcmp(disk->name, value + 1)))) {
      found = disk;
      matches++;
    }
  }
  if (matches > 1) return fail("DISK_NOT_FOUND", "%zu disks match %s", matches, rule);
  if (!found) return fail("DISK_NOT_FOUND", "none of the %zu disks matches %s", count, rule);
  printf("disk %s\nserial ", found->name);
  json_text(stdout, found->serial);
  printf("\n");
  return 0;
}
