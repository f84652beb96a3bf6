/*
 * What is on a disk, from its first and last MiB, or NULL when both are all zero. Opens read-only.
 * The marks: UEFI §5.3.2 (GPT), the ext4, XFS, Btrfs, LUKS, LVM2, md and swap on-disk formats. What is not known is `unknown`, never blank.
 */
#include "ingot.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
  const char *name;
  size_t at;
  const char *mark;
  size_t bytes;
} marks[] = {
    {"luks", 0, "LUKS\xba\xbe", 6},       {"lvm", 512, "LABELONE", 8},          {"lvm", 0, "LABELONE", 8},
    {"lvm", 1024, "LABELONE", 8},         {"lvm", 1536, "LABELONE", 8},         {"xfs", 0, "XFSB", 4},
    {"btrfs", 0x10040, "_BHRfS_M", 8},    {"md", 0, "\xfc\x4e\x2b\xa9", 4},     {"md", 4096, "\xfc\x4e\x2b\xa9", 4},
    {"swap", 4086, "SWAPSPACE2", 10},     {"ext4", 1080, "\x53\xef", 2},        {"squashfs", 0, "hsqs", 4},
    {"iso9660", 32769, "CD001", 5},       {"ntfs", 3, "NTFS    ", 8},           {"vfat", 82, "FAT32   ", 8},
    {"vfat", 54, "FAT1", 4},
};

static const char *recognise(const unsigned char *first, const unsigned char *last, size_t bytes, unsigned sector) {
  if (bytes > 2 * sector && !memcmp(first + sector, "EFI PART", 8)) return "gpt";
  if (!memcmp(last + bytes - sector, "EFI PART", 8)) return "gpt"; /* the backup table alone: a first MiB that was zeroed */
  for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
    if (marks[i].at + marks[i].bytes <= bytes && !memcmp(first + marks[i].at, marks[i].mark, marks[i].bytes)) return marks[i].name;
  if (bytes >= 512 && first[510] == 0x55 && first[511] == 0xaa) return "dos";
  if (is_zero(first, bytes) && is_zero(last, bytes)) return NULL;
  if (bytes >= 65536) { /* md 0.90 and 1.0 and DDF keep their metadata at the end */
    if (!memcmp(last + bytes - 65536, "\xfc\x4e\x2b\xa9", 4) || !memcmp(last + bytes - 8192, "\xfc\x4e\x2b\xa9", 4)) return "md";
    if (!memcmp(last + bytes - 512, "\xde\x11\xde\x11", 4)) return "ddf";
  }
  return "unknown";
}

const char *disk_signature(const char *path) {
  struct block block;
  const char *signature = "unknown"; /* also what cannot be read: only bytes seen as zero make a disk blank */
  if (!block_open(&block, path, false)) return signature;
  size_t bytes = block.size_bytes < MIB ? (size_t)block.size_bytes : (size_t)MIB;
  unsigned char *first = block_buffer(MIB), *last = block_buffer(MIB);
  if (first && last && bytes >= 8192 && block_read(&block, first, bytes, 0) && block_read(&block, last, bytes, block.size_bytes - bytes))
    signature = recognise(first, last, bytes, block.sector_bytes);
  free(first);
  free(last);
  close(block.fd);
  return signature;
}
