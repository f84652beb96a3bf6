/* `facts BOOT_MAC`: what this machine is made of, as the facts JSON of version 1. Reads only. */
#include "ingot.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_cpu(void) {
  static struct {
    int socket, core;
  } seen[8192];
  FILE *file = fopen("/proc/cpuinfo", "re");
  char line[4096], model[256] = "";
  int threads = 0, sockets = 0, socket = 0;
  size_t cores = 0;
  while (file && fgets(line, sizeof line, file)) {
    char *value = strchr(line, ':');
    if (!value) continue;
    int number = atoi(value + 1);
    if (!strncmp(line, "processor", 9)) threads++;
    if (!strncmp(line, "model name", 10) && !*model) snprintf(model, sizeof model, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    if (!strncmp(line, "physical id", 11)) {
      socket = number;
      if (number + 1 > sockets) sockets = number + 1;
    }
    if (!strncmp(line, "core id", 7)) {
      size_t i = 0;
      while (i < cores && (seen[i].socket != socket || seen[i].core != number)) i++;
      if (i == cores && cores < sizeof seen / sizeof *seen) seen[cores].socket = socket, seen[cores++].core = number;
    }
  }
  if (file) fclose(file);
  printf("\"cpu\":{\"model\":");
  json_text(stdout, model);
  printf(",\"sockets\":%d,\"cores\":%zu,\"threads\":%d}", sockets ? sockets : 1, cores ? cores : (size_t)threads, threads);
}

/* What is fitted, not what the kernel left over: memory blocks times their size; MemTotal where there are none. */
static unsigned long long memory_bytes(void) {
  char text[4096];
  unsigned long long block = read_text(text, sizeof text, "/sys/devices/system/memory/block_size_bytes") ? strtoull(text, NULL, 16) : 0;
  unsigned long long blocks = 0;
  DIR *folder = opendir("/sys/devices/system/memory");
  struct dirent *entry;
  while (folder && (entry = readdir(folder)))
    if (!strncmp(entry->d_name, "memory", 6)) blocks++;
  if (folder) closedir(folder);
  if (block && blocks) return block * blocks;
  read_text(text, sizeof text, "/proc/meminfo");
  return strtoull(text + strcspn(text, "0123456789"), NULL, 10) * 1024;
}

static void print_dmi(void) {
  static const char *const fields[][2] = {{"manufacturer", "sys_vendor"}, {"product", "product_name"},      {"serial", "product_serial"},
                                          {"uuid", "product_uuid"},       {"board_serial", "board_serial"}, {"bios_version", "bios_version"}};
  char text[512];
  printf("\"dmi\":{");
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    read_text(text, sizeof text, "/sys/class/dmi/id/%s", fields[i][1]);
    printf("%s\"%s\":", i ? "," : "", fields[i][0]);
    json_text(stdout, text);
  }
  printf("}");
}

static void print_disks(void) {
  static struct disk disks[MAX_DISKS];
  size_t count = list_disks(disks, MAX_DISKS);
  printf("\"disks\":[");
  for (size_t i = 0; i < count; i++) {
    char path[128];
    snprintf(path, sizeof path, "/dev/%s", disks[i].name);
    printf("%s{\"name\":", i ? "," : "");
    json_text(stdout, disks[i].name);
    printf(",\"size_bytes\":%llu,\"serial\":", (unsigned long long)disks[i].size_bytes);
    json_text(stdout, disks[i].serial);
    printf(",\"wwn\":");
    json_text(stdout, disks[i].wwn);
    printf(",\"model\":");
    json_text(stdout, disks[i].model);
    printf(",\"rotational\":%s,\"signature\":", disks[i].rotational ? "true" : "false");
    json_text(stdout, disk_signature(path));
    printf(",\"transport\":\"%s\"}", disks[i].transport);
  }
  printf("]");
}

/* The last `0000:00:00.0` in the device's path: a virtio NIC's own device is `virtio0`, its parent has the PCI address. */
static void find_pci(const char *device_path, char pci[16]) {
  *pci = 0;
  for (const char *at = device_path; (at = strchr(at, '/')); ) {
    unsigned domain, bus, slot, function;
    int used = 0;
    at++;
    if (sscanf(at, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &used) == 4 && used == 12) snprintf(pci, 16, "%.12s", at);
  }
}

static bool print_nic(const char *name, bool first) {
  char path[512], device[4096], text[128], mac[64], driver[512], pci[16];
  snprintf(path, sizeof path, "/sys/class/net/%s/device", name);
  if (!realpath(path, device)) return false; /* no hardware behind it: loopback, a tunnel */
  if (!read_text(text, sizeof text, "/sys/class/net/%s/type", name) || strcmp(text, "1")) return false; /* Ethernet only */
  read_text(mac, sizeof mac, "/sys/class/net/%s/address", name);
  snprintf(path, sizeof path, "/sys/class/net/%s/device/driver", name);
  ssize_t bytes = readlink(path, driver, sizeof driver - 1);
  driver[bytes > 0 ? bytes : 0] = 0;
  find_pci(device, pci);
  printf("%s{\"name\":", first ? "" : ",");
  json_text(stdout, name);
  printf(",\"mac\":");
  json_text(stdout, mac);
  printf(",\"link\":%s", read_text(text, sizeof text, "/sys/class/net/%s/carrier", name) && !strcmp(text, "1") ? "true" : "false");
  bool known = read_text(text, sizeof text, "/sys/class/net/%s/speed", name) && atoi(text) > 0;
  printf(",\"speed_mbps\":%s,\"driver\":", known ? text : "null");
  json_text(stdout, strrchr(driver, '/') ? strrchr(driver, '/') + 1 : NULL);
  printf(",\"pci\":");
  json_text(stdout, pci);
  printf("}");
  return true;
}

static void print_nics(void) {
  struct dirent **names;
  int count = scandir("/sys/class/net", &names, NULL, alphasort);
  bool first = true;
  printf("\"nics\":[");
  for (int i = 0; i < count; i++) {
    if (*names[i]->d_name != '.' && print_nic(names[i]->d_name, first)) first = false;
    free(names[i]);
  }
  if (count >= 0) free(names);
  printf("]");
}

int cmd_facts(int argc, char **argv) {
  static char buffer[65536];
  struct bmc bmc;
  if (argc != 2) return 2;
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  printf("{\"version\":1,\"firmware\":\"%s\",", access("/sys/firmware/efi", F_OK) ? "bios" : "uefi");
  print_cpu();
  printf(",\"memory_bytes\":%llu,", memory_bytes());
  print_dmi();
  printf(",");
  print_disks();
  printf(",");
  print_nics();
  printf(",\"bmc\":");
  if (read_bmc(&bmc)) {
    printf("{\"address\":\"%s\",\"mac\":", bmc.address);
    json_text(stdout, bmc.mac);
    printf(",\"channel\":%d}", bmc.channel);
  } else
    printf("null");
  printf(",\"boot_mac\":");
  json_text(stdout, argv[1]);
  printf("}\n");
  return 0;
}
