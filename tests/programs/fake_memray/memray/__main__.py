"""`python -m memray attach|detach`: asks the program, as memray's own command does, and waits for its answer.

What it is to do otherwise stands in files beside the program's socket: `refuse` (words to fail with), `hang`.
"""

import argparse
import os
import socket
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("command")
parser.add_argument("--method")
parser.add_argument("--duration", default="0")
parser.add_argument("--trace-python-allocators", action="store_true")
parser.add_argument("--no-compress", action="store_true")
parser.add_argument("-o", dest="output", default="-")
parser.add_argument("pid", type=int)
options = parser.parse_args()

place = os.path.join(os.environ["HOME"], "tracked")
if os.path.exists(f"{place}.hang"):
    time.sleep(600)
if os.path.exists(f"{place}.refuse"):
    with open(f"{place}.refuse") as words:
        sys.exit(words.read())
with socket.socket(socket.AF_UNIX) as client:
    client.connect(place)
    client.sendall(f"{options.command}\t{options.output}\t{options.duration}\n".encode())
    answer = client.makefile().readline().strip()
if answer != "ok":
    sys.exit(answer)
