"""A program that can be told to track itself: opens a file and starts a timer, as memray does in a process.

Listens at $HOME/tracked for the fake memray of these tests; prints "ready PID" when it does.
"""

import os
import shutil
import socket
import threading

state = {"file": None, "timer": None}
lock = threading.Lock()


def detach():
    with lock:
        if state["file"] is not None:
            state["file"].close()
            state["timer"].cancel()
            state["file"] = None


def attach(path, seconds):
    detach()
    with lock:
        if "CAPTURE" in os.environ:
            shutil.copyfile(os.environ["CAPTURE"], path)
        state["file"] = open(path, "ab")  # noqa: SIM115 - closed by detach
        state["timer"] = threading.Timer(seconds, detach)
        state["timer"].start()


def work():
    while True:
        sum(range(1000))


server = socket.socket(socket.AF_UNIX)
server.bind(os.path.join(os.environ["HOME"], "tracked"))
server.listen()
threading.Thread(target=work, name="worker", daemon=True).start()
print(f"ready {os.getpid()}", flush=True)  # noqa: T201 - what tests wait for
while True:
    client, _ = server.accept()
    with client:
        command, path, duration = client.makefile().readline().rstrip("\n").split("\t")
        if command == "attach":
            attach(path, int(duration))
        else:
            detach()
        client.sendall(b"ok\n")
