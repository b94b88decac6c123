"""Stands in for systemd's descriptor store: runs one service and starts it again.

    store-manager.py SOCKET KIND COMMAND...

KIND is `usable`, `no-return` (systemd before 236: descriptors stay, whatever is asked) or `none` (closed
at once). The service gets NOTIFY_SOCKET=SOCKET, and what it stored as LISTEN_FDS, LISTEN_FDNAMES and
LISTEN_PID. One line for each event: started PID, stored COUNT NAME, removed NAME, ready, ended CODE.

    SIGHUP    restarts the service (SIGTERM)
    SIGUSR1   kills it with SIGKILL; it is started again, as whenever it ends by itself
    SIGTERM   stops it, closes what is stored, and ends with its code
"""

import array
import os
import selectors
import signal
import socket
import sys

path, kind, command = sys.argv[1], sys.argv[2], sys.argv[3:]
if os.path.exists(path):
    os.unlink(path)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
store = []  # name, descriptor
wanted = True
FIRST = 3


def say(*words):
    print(*words, flush=True)


def start():
    passed = [(name, os.dup(fd)) for name, fd in store]
    pid = os.fork()
    if pid != 0:
        for _, fd in passed:
            os.close(fd)
        say("started", pid)
        return pid
    signal.set_wakeup_fd(-1)
    env = dict(os.environ, NOTIFY_SOCKET=path)
    # Out of the way of where they go.
    high = [os.dup2(fd, 200 + index) for index, (_, fd) in enumerate(passed)]
    for index, fd in enumerate(high):
        os.dup2(fd, FIRST + index, inheritable=True)
    os.closerange(FIRST + len(high), 400)
    if passed:
        env["LISTEN_PID"] = str(os.getpid())
        env["LISTEN_FDS"] = str(len(passed))
        env["LISTEN_FDNAMES"] = ":".join(name for name, _ in passed)
    os.execvpe(command[0], command, env)


def receive():
    text, control, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(4 * 253))
    fds = array.array("i")
    for level, what, data in control:
        if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % 4])
    lines = text.decode().split("\n")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    name = fields.get("FDNAME", "stored") if kind == "usable" else "stored"
    if fields.get("FDSTORE") == "1" and kind != "none":
        store.extend((name, fd) for fd in fds)
        say("stored", len(fds), name)
    else:
        for fd in fds:
            os.close(fd)
    if fields.get("FDSTOREREMOVE") == "1" and kind == "usable":
        for one in [one for one in store if one[0] == name]:
            os.close(one[1])
            store.remove(one)
        say("removed", name)
    if fields.get("READY") == "1":
        say("ready")


read_end, write_end = os.pipe()
os.set_blocking(write_end, False)
signal.set_wakeup_fd(write_end)
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD):
    signal.signal(number, lambda *_: None)
child = start()
waiting = selectors.DefaultSelector()
waiting.register(notify, selectors.EVENT_READ)
waiting.register(read_end, selectors.EVENT_READ)
while True:
    for key, _ in waiting.select():
        if key.fileobj is notify:
            receive()
            continue
        for number in os.read(read_end, 64):
            if number == signal.SIGUSR1:
                os.kill(child, signal.SIGKILL)
            elif number in (signal.SIGHUP, signal.SIGTERM):
                wanted = wanted and number == signal.SIGHUP
                os.kill(child, signal.SIGTERM)
            elif number == signal.SIGCHLD:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid != child:
                    continue
                code = os.waitstatus_to_exitcode(status)
                say("ended", code)
                if not wanted:
                    for _, fd in store:
                        os.close(fd)
                    os.unlink(path)
                    sys.exit(max(code, 0))
                child = start()
