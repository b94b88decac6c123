"""Datagrams that carry their number, each expected exactly once and in order.

    serve ADDRESS PORT               prints `listening`, then `N in order` or what went wrong
    send ADDRESS PORT COUNT BYTES    COUNT datagrams of BYTES (a multiple of 8) each

They go in bursts, each after the one before was acknowledged, so that no socket buffer overflows:
what is missing, the tunnel has lost. Every other burst is one send with UDP_SEGMENT (Linux 4.18), unless
a datagram is larger than the path's MTU: those go as fragments.
"""

import socket
import struct
import sys

UDP_SEGMENT = 103
IP_MTU = 14  # ip(7)
HEADERS = 28  # IPv4 and UDP
END = 1 << 63  # beside the number: the last of all
PATIENCE_S = 5


def burst_of(size):
    return min(16, 60_000 // size)


def payload(number, size, last):
    head = struct.pack(">Q", number | (END if last else 0))
    return head + struct.pack(">Q", number) * (size // 8 - 1)


def serve(address, port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))
    print("listening", flush=True)
    expected = 0
    while True:
        server.settimeout(PATIENCE_S if expected > 0 else None)
        datagram, sender = server.recvfrom(65536)
        word = struct.unpack(">Q", datagram[:8])[0]
        number, last = word & ~END, word >= END
        if number != expected:
            sys.exit(f"datagram {number} came when {expected} was due")
        if datagram != payload(number, len(datagram), last):
            sys.exit(f"datagram {number} is damaged")
        expected += 1
        if last or expected % burst_of(len(datagram)) == 0:
            server.sendto(struct.pack(">Q", expected), sender)
        if last:
            print(f"{expected} in order")
            return


def send(address, port, count, size):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(PATIENCE_S)
    client.connect((address, port))
    most = burst_of(size)
    whole = size + HEADERS <= client.getsockopt(socket.IPPROTO_IP, IP_MTU)
    for first in range(0, count, most):
        numbers = range(first, min(first + most, count))
        burst = [payload(number, size, number == count - 1) for number in numbers]
        if whole and first // most % 2 == 0:
            segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
            client.sendmsg([b"".join(burst)], segment)
        else:
            for datagram in burst:
                client.send(datagram)
        acknowledged = struct.unpack(">Q", client.recv(8))[0]
        if acknowledged != numbers[-1] + 1:
            sys.exit(f"{acknowledged} acknowledged when {numbers[-1] + 1} was due")


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
