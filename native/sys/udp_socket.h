// The sockets of the tunnel: UDP for encapsulated packets, raw for ICMP errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

// A non-blocking UDP socket bound to address:port (host order). Checksums on, DSCP and ECN 0, the
// kernel's path MTU discovery until ignore_path_mtu: all defaults, as flanneld leaves them.
// `buffer_bytes` sets both socket buffers, past rmem_max and wmem_max where CAP_NET_ADMIN allows; 0
// leaves the defaults.
Result<OwnedFd> open_udp_socket(uint32_t address, uint16_t port, int buffer_bytes);

// Makes a socket that another process opened like one of open_udp_socket: 0 or an errno,
// EADDRNOTAVAIL when it is bound to another address or port, or is no UDP socket.
int adopt_udp_socket(int fd, uint32_t address, uint16_t port, int buffer_bytes);

// Of a socket that is bound; 0 when it is not.
uint16_t bound_port(int fd);

// Opens more sockets on the port of the first, `count` in all, between which the kernel spreads
// what arrives: a datagram goes to the socket its outer flow's hash picks, so one flow stays on one
// socket. 0 or an errno: SO_REUSEPORT is Linux 3.9.
//
// The kernel lets sockets share a port when each has SO_REUSEPORT at the time the later one binds,
// and one user opened them. The first is bound without it, which is refused as long as anybody else
// holds the port, and gets it afterwards: two daemons that start at once cannot both pass, and one
// that comes later fails at its own first socket.
int add_udp_sockets(std::vector<OwnedFd>& sockets, size_t count, uint32_t address, uint16_t port,
                    int buffer_bytes);
// Closes all but the first, whose port no other socket can share then.
void leave_one_udp_socket(std::vector<OwnedFd>& sockets);

// A socket on a port of the kernel's choice, to send by only. A filter of one instruction refuses
// whatever is sent to it before it is queued, so that nothing can pile up unread. Without a
// connection and without IP_RECVERR no ICMP error is queued either, as on the other sockets.
Result<OwnedFd> open_send_socket(uint32_t address, int buffer_bytes);

// Datagrams leave without DF, trains and single ones alike, and ICMP errors that demand shorter
// ones are not believed (IP_PMTUDISC_OMIT, Linux 3.15, else IP_PMTUDISC_INTERFACE, 3.14): anybody
// can forge them. 0 or an errno: EINVAL before.
int ignore_path_mtu(int fd);

// Whether the kernel knows UDP_SEGMENT (4.18): 0, or an errno. Changes nothing.
int check_udp_gso(int fd);
// Lets the kernel hand over trains of datagrams, each receive with a UDP_GRO control message that
// tells their length. 0 or an errno: EOPNOTSUPP on kernels whose UDP_GRO loses packets.
int enable_udp_gro(int fd);
// Whether it is enabled.
bool has_udp_gro(int fd);
// Datagrams come one by one again; those of a train that waits already cannot be told apart then.
void disable_udp_gro(int fd);

// The buffers the kernel granted, in bytes of its own reckoning: twice what was asked for.
struct SocketBuffers {
  int receive_bytes = 0;
  int send_bytes = 0;
};
SocketBuffers socket_buffers(int fd);
// Datagrams the socket dropped, because its buffer was full or a checksum wrong (SO_MEMINFO, Linux
// 4.12); empty where the kernel does not tell.
std::optional<uint64_t> socket_drops(int fd);

// A raw socket that receives the replies to ICMP echo requests of this identifier, and no other
// packets: a filter refuses them before they are queued. Non-blocking.
Result<OwnedFd> open_echo_socket(uint16_t identifier);

// A raw socket that sends whole IPv4 packets (IP_HDRINCL) and receives none. A packet with DF goes
// out whatever path MTU the kernel was told about (IP_PMTUDISC_PROBE); one longer than the device's
// MTU is EMSGSIZE. ICMP errors go out
// here and not into the TUN: the kernel refuses packets that arrive from a device with the host's
// own address as source (martian source).
Result<OwnedFd> open_raw_socket();

}  // namespace flannelette
