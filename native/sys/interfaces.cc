#include "sys/interfaces.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>

#include "sys/owned_fd.h"

namespace flannelette {

namespace {

uint32_t mtu_of(int socket, const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof(request.ifr_name) - 1));
  return ::ioctl(socket, SIOCGIFMTU, &request) < 0 ? 0 : static_cast<uint32_t>(request.ifr_mtu);
}

uint32_t address_of(const sockaddr* address) {
  return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
}

}  // namespace

Result<std::vector<Interface>> list_interfaces() {
  OwnedFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error{errno, "socket UDP", ""};
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) < 0) return Error{errno, "getifaddrs", ""};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(first, &::freeifaddrs);

  // getifaddrs lists every interface once with its link address, and once per IP address.
  std::vector<Interface> out;
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    // An address label (eth0:1) names an alias; the interface is the part before the colon.
    std::string name(entry->ifa_name);
    name.resize(std::min(name.find(':'), name.size()));
    Interface* at = nullptr;
    for (Interface& known : out)
      if (known.name == name) at = &known;
    if (at == nullptr) {
      at = &out.emplace_back();
      at->name = name;
      at->index = ::if_nametoindex(name.c_str());
      at->mtu = mtu_of(socket.get(), name);
      at->up = (entry->ifa_flags & IFF_UP) != 0;
      at->loopback = (entry->ifa_flags & IFF_LOOPBACK) != 0;
    }
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    const uint32_t mask = entry->ifa_netmask == nullptr ? ~0U : address_of(entry->ifa_netmask);
    at->addresses.push_back(
        {address_of(entry->ifa_addr), static_cast<uint32_t>(std::popcount(mask))});
  }
  return out;
}

}  // namespace flannelette
