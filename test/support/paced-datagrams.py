"""Numbered datagrams at a steady rate, and what became of them.

    serve ADDRESS PORT         prints `listening`, `receiving` with the first, and at the end one line
                               of JSON: how many were received, lost, out of order or twice, and the
                               longest silence in ms
    send ADDRESS PORT RATE     RATE datagrams of 64 bytes a second until SIGTERM; what a busy
                               machine holds up is sent at once afterwards

A silence is the time between two datagrams received, less what the sender itself was held up.
"""

import json
import signal
import socket
import struct
import sys
import time

SO_RCVBUFFORCE = 33
BUFFER = 32 * 1024 * 1024
END = 1 << 63  # in place of the number; the number of datagrams sent follows
PADDING = b"\0" * 48
PATIENCE_S = 30


def serve(address, port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    server.bind((address, port))
    print("listening", flush=True)
    server.settimeout(PATIENCE_S)
    received = late = expected = 0
    longest = 0.0
    before = None
    while True:
        number, word = struct.unpack(">Qd", server.recv(2048)[:16])
        now = time.monotonic()
        if number == END:
            break
        received += 1
        if number < expected:
            late += 1
        expected = max(expected, number + 1)
        if before is not None:
            # Of those lost between two nobody knows when they were sent.
            held_up = max(0.0, word - before[1] - 0.001) if number == before[2] + 1 else 0.0
            longest = max(longest, now - before[0] - held_up)
        else:
            print("receiving", flush=True)
        before = (now, word, number)
    sent = int(word)
    print(json.dumps({"sent": sent, "received": received, "lost": sent - received, "late": late,
                      "longestSilenceMs": round(longest * 1000, 1)}))


def send(address, port, rate):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((address, port))
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    start = time.monotonic()
    number = 0
    while not ending:
        time.sleep(0.0005)
        due = int((time.monotonic() - start) * rate)
        while number < due and not ending:
            client.send(struct.pack(">Qd", number, time.monotonic()) + PADDING)
            number += 1
    time.sleep(0.5)
    try:
        for _ in range(10):
            client.send(struct.pack(">Qd", END, float(number)) + PADDING)
            time.sleep(0.02)
    except ConnectionRefusedError:
        pass  # The receiver has ended.


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
