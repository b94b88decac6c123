"""raw-packets.py DEVICE < JSON array of base64: sends each as one IPv4 packet of its own header.

The packets leave by DEVICE as they are: forged sources, wrong checksums and fragments included. With
an optional second argument, a MAC address, they are frames to that address; without it the kernel finds
the way, but fills in identification and checksum where they are 0 (raw(7)).
"""

import base64
import json
import socket
import sys

device, *mac = sys.argv[1:]
packets = [base64.b64decode(text) for text in json.load(sys.stdin)]
if mac:
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    address = bytes.fromhex(mac[0].replace(":", ""))
    for packet in packets:
        frames.sendto(packet, (device, 0x0800, 0, 0, address))
else:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for packet in packets:
        raw.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
