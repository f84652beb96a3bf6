/* JSON strings out of anything: firmware strings are hostile input (control characters, quotes, broken UTF-8). */
#include "ingot.h"

#include <string.h>

/* Length of the valid UTF-8 sequence at `at`, 0 when there is none (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). */
static size_t utf8_length(const unsigned char *at, size_t left) {
  unsigned lead = at[0];
  size_t length = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
  if (length == 0 || length > left) return 0;
  for (size_t i = 1; i < length; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] > 0x9f)) return 0;
  if ((lead == 0xf0 && at[1] < 0x90) || (lead == 0xf4 && at[1] > 0x8f)) return 0;
  return length;
}

void json_string(FILE *out, const char *text, size_t bytes) {
  const unsigned char *at = (const unsigned char *)text;
  putc('"', out);
  while (bytes) {
    size_t length = utf8_length(at, bytes);
    if (length == 0) {
      fputs("\\ufffd", out);
      length = 1;
    } else if (length == 1 && (*at < 0x20 || *at == 0x7f))
      fprintf(out, "\\u%04x", *at);
    else if (*at == '"' || *at == '\\')
      fprintf(out, "\\%c", *at);
    else
      fwrite(at, 1, length, out);
    at += length, bytes -= length;
  }
  putc('"', out);
}

/* Empty and absent are both null: a firmware that leaves a field blank said nothing. */
void json_text(FILE *out, const char *text) {
  if (text && *text)
    json_string(out, text, strlen(text));
  else
    fputs("null", out);
}

/* `quote`: stdin as one JSON string, at most 256 KiB of it. For the shell's own event bodies. */
int cmd_quote(int argc, char **argv) {
  static char text[262144];
  (void)argc, (void)argv;
  json_string(stdout, text, fread(text, 1, sizeof text, stdin));
  return 0;
}
