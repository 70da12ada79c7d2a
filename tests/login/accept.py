"""Runs in the machine: does what systemd does for pam-totp-self.socket, one process for each connection."""

import os
import signal
import socket
import sys

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
listener.listen(16)
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(connection.fileno(), 0)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.execve("/usr/bin/python3", ["/usr/bin/python3", "-I", "-m", "pam_totp.selfservice.server"], {})
    connection.close()
