/* Finds the EFI system partition in a GUID partition table (UEFI §5.3). The table was checked by digest; bounds are checked all the same. */
#include "ingot.h"

#include <string.h>

/* C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it is stored. */
static const unsigned char esp_type[16] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};

static uint64_t little(const unsigned char *at, int bytes) {
  uint64_t value = 0;
  while (bytes--) value = value << 8 | at[bytes];
  return value;
}

bool find_esp(const unsigned char *first_mib, unsigned sector_bytes, struct esp *esp) {
  const unsigned char *header = first_mib + sector_bytes;
  if (memcmp(header, "EFI PART", 8)) return false;
  uint64_t table = little(header + 72, 8) * sector_bytes, count = little(header + 80, 4), entry_bytes = little(header + 84, 4);
  if (entry_bytes < 128 || count > 1024 || table > MIB || table + count * entry_bytes > MIB) return false;
  for (uint32_t i = 0; i < count; i++) {
    const unsigned char *entry = first_mib + table + i * entry_bytes;
    if (memcmp(entry, esp_type, 16)) continue;
    esp->number = i + 1;
    esp->first_lba = little(entry + 32, 8);
    esp->sectors = little(entry + 40, 8) - esp->first_lba + 1;
    memcpy(esp->guid, entry + 16, 16);
    return true;
  }
  return false;
}
