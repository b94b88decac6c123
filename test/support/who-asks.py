"""Answers each TCP connection with the name it was given and the address it sees: NAME ADDRESS."""

import socket
import sys

port, name = int(sys.argv[1]), sys.argv[2]
server = socket.create_server(("0.0.0.0", port), backlog=64)
print("listening", flush=True)
while True:
    connection, (address, _) = server.accept()
    with connection:
        connection.sendall(f"{name} {address}\n".encode())
