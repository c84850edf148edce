"""A process that is hard to look at: hostile.py KIND DIRECTORY [NUMBER]. Says "ready PID" when it is so.

Kinds: "fleet" (NUMBER ordinary children), "names" (mapped files with any byte in their names), "cookies"
(eight mappings of NUMBER MiB full of the cookie), "sections" (a mapped ELF file with 2**30 sections),
"maps" (NUMBER mappings), "offsets" (NUMBER seeds the damage to its own _Py_DebugOffsets), "seeds" (the same
for each seed that it is given), "threads" (an interpreter with NUMBER thread states), "hanging" (reading
its memory does not end: needs userfaultfd), "silent" (the same, from when DIRECTORY/go is there).
"""

import ctypes
import fcntl
import mmap
import os
import platform
import random
import signal
import struct
import sys
import threading
import time

PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
kept = []


def ready():
    sys.stdout.write(f"ready {os.getpid()}\n")
    sys.stdout.flush()
    while True:
        time.sleep(1000)


def mapped(path, size=0):
    with open(path, "r+b") as file:
        kept.append(
            mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        )


def runtime():
    """Address and first KiB of our own _PyRuntime."""
    address = ctypes.addressof((ctypes.c_char * 1).in_dll(ctypes.pythonapi, "_PyRuntime"))
    return address, ctypes.string_at(address, 1024)


def fleet(directory, number):
    pids = []
    for _ in range(number):
        pid = os.fork()
        if pid == 0:
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)
            while True:
                signal.pause()
        pids.append(pid)
    with open(os.path.join(directory, "fleet"), "w") as file:
        file.write(" ".join(map(str, pids)))


def names(directory, number):
    for name in [bytes([byte]) * 3 for byte in range(1, 256) if byte not in b"/."] + [
        b"a\rb",
        b"\xe2\x80\xae",
    ]:
        path = os.fsencode(directory) + b"/n" + name
        with open(path, "wb") as file:
            file.write(b"x" * PAGE)
        mapped(path)


def cookies(directory, number):
    path = os.path.join(directory, "libpython3.14t.so.1.0")
    with open(path, "wb") as file:
        for _ in range(number):
            file.write(b"xdebugpy" * (1 << 17))
    for _ in range(8):
        mapped(path)


def sections(directory, number):
    path = os.path.join(directory, "libpython3.14t.so.1.0")
    first = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 120, 1 << 30, 0, 0, 0, 0)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 120, 0, 64, 56, 1, 64, 0, 0)
    with open(path, "wb") as file:
        file.write(header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, PAGE, PAGE, PAGE) + first)
        file.truncate(120 + (64 << 30))
    mapped(path, PAGE)


def maps(directory, number):
    at = libc.mmap(None, number * PAGE, 3, 0x22, -1, 0)
    for place in range(0, number, 2):
        libc.mprotect(at + place * PAGE, PAGE, 1)


BAD = [
    0,
    1,
    7,
    8,
    24,
    64,
    2**12,
    2**16,
    2**20,
    2**24 - 8,
    2**24,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]


def offsets(directory, number):
    damage(number)


def seeds(directory, number):
    """Damages its offsets anew for each line with a seed on standard input, and says so."""
    for name in ("one", "two"):
        threading.Thread(target=time.sleep, args=(10_000,), daemon=True, name=name).start()
    address, original = runtime()
    sys.stdout.write(f"ready {os.getpid()}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        ctypes.memmove(address, original, len(original))
        if int(line) >= 0:
            damage(int(line))
        sys.stdout.write("done\n")
        sys.stdout.flush()


ZEROS = ctypes.create_string_buffer(1 << 22)


def damage(seed):
    address, original = runtime()
    chosen = random.Random(seed)
    # The first published offset but one is that of the field behind the flags behind the offsets.
    words = struct.unpack_from("<Q", original, 32)[0] // 8 - 4
    for _ in range(chosen.choice([1, 1, 2, 4, 10, 60])):
        place = 8 * chosen.randrange(3, words)
        value = chosen.choice(
            [
                chosen.choice(BAD),
                (ctypes.addressof(ZEROS) - address) % 2**64,
                chosen.randrange(0, 4096, 8),
                struct.unpack_from("<Q", original, 8 * chosen.randrange(3, words))[0],
                (struct.unpack_from("<Q", original, place)[0] + chosen.choice([8, -8, 1, 64])) % 2**64,
            ]
        )
        ctypes.memmove(address + place, struct.pack("<Q", value), 8)


def threads(directory, number):
    """A list of thread states of real threads, in memory of our own, which no interpreter uses."""
    for _ in range(4):
        threading.Thread(target=time.sleep, args=(10_000,), daemon=True).start()
    address, original = runtime()

    def word(place):
        return struct.unpack_from("<Q", original, 24 + 8 * place)[0]

    interpreter_groups, thread_groups = {13: (3, 16), 14: (3, 19), 15: (3, 19)}[sys.version_info.minor]
    head, following, first = word(2), word(interpreter_groups + 2), word(interpreter_groups + 3)
    after, native = word(thread_groups + 2), word(thread_groups + (9 if sys.version_info >= (3, 15) else 6))
    size = 16 * PAGE
    memory = mmap.mmap(-1, 4 * size + 1024 * number)
    kept.append(memory)
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    real = ctypes.c_uint64.from_address(address + head).value
    memory[:size] = ctypes.string_at(real, size)
    struct.pack_into("<QQ", memory, following, 0, at + 4 * size)
    struct.pack_into("<Q", memory, first, at + 4 * size)
    tids = [int(name) for name in os.listdir("/proc/self/task")]
    for place in range(number):
        begin = 4 * size + 1024 * place
        struct.pack_into("<Q", memory, begin + after, at + begin + 1024 if place + 1 < number else 0)
        struct.pack_into("<Q", memory, begin + native, tids[place % len(tids)])
    point_head_at(at)
    return at, size


def hanging(directory, number):
    """Lets its list of interpreters begin in a page whose faults nobody answers."""
    size = 512 * PAGE  # as much as any interpreter state
    at = libc.mmap(None, size, 3, 0x22, -1, 0)
    user_faults(at, size)
    point_head_at(at)


def user_faults(at, size):
    """From now on whoever reads these pages waits for us to bring them, which we never do."""
    faults = libc.syscall({"x86_64": 323, "aarch64": 282}[platform.machine()], os.O_CLOEXEC)
    if faults < 0:
        sys.exit("userfaultfd is not permitted here")
    kept.append(faults)
    fcntl.ioctl(faults, 0xC018AA3F, bytearray(struct.pack("<QQQ", 0xAA, 0, 0)))  # UFFDIO_API
    fcntl.ioctl(faults, 0xC020AA00, bytearray(struct.pack("<QQQQ", at, size, 1, 0)))  # UFFDIO_REGISTER


def silent(directory, number):
    """Lets what its threads are read from be in pages that nobody brings, as soon as it is told to."""
    at, size = threads(directory, number)

    def turn():
        while not os.path.exists(os.path.join(directory, "go")):
            sum(range(1000))
            time.sleep(0.01)
        user_faults(at, size)
        libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), 9)  # MADV_REMOVE

    threading.Thread(target=turn, daemon=True).start()


def point_head_at(place):
    """Let the list of interpreters begin elsewhere: who runs already does not ask for it."""
    address, original = runtime()
    head = struct.unpack_from("<Q", original, 24 + 8 * 2)[0]
    ctypes.memmove(address + head, struct.pack("<Q", place), 8)


if __name__ == "__main__":
    kind, directory, number = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0
    {
        function.__name__: function
        for function in (fleet, names, cookies, sections, maps, offsets, seeds, threads, hanging, silent)
    }[kind](directory, number)
    ready()
