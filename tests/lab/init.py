"""Pid 1 of a machine: keeps what is sent to /dev/log, reaps, and ends when nobody holds the other end of the rope.

Each record is kept as one line: seconds since the epoch, a space, the datagram in hexadecimal. It runs with the
machine's own Python and imports nothing of the project.
"""

import os
import select
import signal
import socket
import sys
import time


def main(log: int, rope: int) -> None:
    """Serve until the rope (a pipe) is let go; the kernel then ends every other process of the machine."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.umask(0)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind("/dev/log")
    os.umask(0o022)
    print("ready", flush=True)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    while True:
        readable, _, _ = select.select([receiver.fileno(), rope], [], [])
        if receiver.fileno() in readable:
            os.write(log, f"{time.time():.6f} {receiver.recv(1 << 20).hex()}\n".encode())
        if rope in readable:
            return


main(*map(int, sys.argv[1:]))
