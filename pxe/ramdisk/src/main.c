/* Dispatches `ingot-ramdisk SUBCOMMAND …`. */
#include "ingot.h"

#include <signal.h>
#include <stdarg.h>
#include <string.h>

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
} commands[] = {
    {"http", cmd_http}, {"facts", cmd_facts}, {"find", cmd_find}, {"write", cmd_write},
    {"seal", cmd_seal}, {"wipe", cmd_wipe},   {"efi", cmd_efi},   {"quote", cmd_quote},
    {"burn", cmd_burn},
};

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
    if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 1, argv + 1);
  fprintf(stderr, "usage: ingot-ramdisk http|facts|find|write|seal|wipe|efi|quote|burn …\n");
  return 2;
}

int fail(const char *cause, const char *format, ...) {
  char detail[512];
  va_list args;
  va_start(args, format);
  vsnprintf(detail, sizeof detail, format, args);
  va_end(args);
  printf("failed %s %s\n", cause, detail);
  fflush(stdout);
  return 1;
}
