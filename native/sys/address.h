// Addresses in the kernel's and in people's form.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstdint>
#include <string>

namespace flannelette {

inline sockaddr_in socket_address(uint32_t address, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  out.sin_addr.s_addr = htonl(address);
  return out;
}

inline std::string format_address(uint32_t address) {
  char text[INET_ADDRSTRLEN] = "";
  const in_addr in{htonl(address)};
  ::inet_ntop(AF_INET, &in, text, sizeof(text));
  return text;
}

}  // namespace flannelette
