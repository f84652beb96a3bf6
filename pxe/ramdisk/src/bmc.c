/*
 * Where this machine's BMC is, asked over the local interface (/dev/ipmi0): Get Channel Info finds the 802.3 LAN channel, Get LAN
 * Configuration Parameters gives its address and MAC (IPMI 2.0 §22.24, §23.2).
 */
#include "ingot.h"

#include <fcntl.h>
#include <linux/ipmi.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Sends one request to the BMC and copies the response data after the completion code. Returns its length, -1 for any failure. */
static int ask(int fd, unsigned char net_function, unsigned char command, const unsigned char *data, unsigned short bytes, unsigned char *reply) {
  static long sequence;
  unsigned char message[IPMI_MAX_MSG_LENGTH];
  struct ipmi_system_interface_addr address = {.addr_type = IPMI_SYSTEM_INTERFACE_ADDR_TYPE, .channel = IPMI_BMC_CHANNEL}, from;
  struct ipmi_req request = {
      .addr = (unsigned char *)&address,
      .addr_len = sizeof address,
      .msgid = ++sequence,
      .msg = {.netfn = net_function, .cmd = command, .data = (unsigned char *)data, .data_len = bytes},
  };
  struct ipmi_recv answer = {
      .addr = (unsigned char *)&from, .addr_len = sizeof from, .msg = {.data = message, .data_len = sizeof message}};
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  if (ioctl(fd, IPMICTL_SEND_COMMAND, &request)) return -1;
  while (poll(&wait, 1, 5000) == 1) {
    if (ioctl(fd, IPMICTL_RECEIVE_MSG_TRUNC, &answer)) return -1;
    if (answer.msgid != sequence) continue;
    if (answer.msg.data_len < 1 || message[0] != 0) return -1;
    memcpy(reply, message + 1, answer.msg.data_len - 1u);
    return answer.msg.data_len - 1;
  }
  return -1;
}

static int lan_parameter(int fd, int channel, unsigned char parameter, unsigned char *reply) {
  const unsigned char data[4] = {(unsigned char)channel, parameter, 0, 0};
  return ask(fd, 0x0c, 0x02, data, sizeof data, reply);
}

bool read_bmc(struct bmc *bmc) {
  int fd = open("/dev/ipmi0", O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  unsigned char reply[IPMI_MAX_MSG_LENGTH], number;
  bool found = false;
  for (number = 1; !found && number < 12; number++) {
    if (ask(fd, 0x06, 0x42, &number, 1, reply) < 2 || (reply[1] & 0x7f) != 4) continue;
    if (lan_parameter(fd, number, 3, reply) < 5) continue;
    bmc->channel = number;
    snprintf(bmc->address, sizeof bmc->address, "%u.%u.%u.%u", reply[1], reply[2], reply[3], reply[4]);
    *bmc->mac = 0;
    if (lan_parameter(fd, number, 5, reply) >= 7)
      snprintf(bmc->mac, sizeof bmc->mac, "%02x:%02x:%02x:%02x:%02x:%02x", reply[1], reply[2], reply[3], reply[4], reply[5], reply[6]);
    found = true;
  }
  close(fd);
  return found;
}
