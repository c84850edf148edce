"""How an object is counted, and whose it is: what its header says in free-threaded builds.

In: the address of an object. Out: `ObjectFacts`, its type, and whether other threads count references to it.
The header is ob_tid, ob_flags (padding in 3.13), ob_mutex, ob_gc_bits, ob_ref_local, ob_ref_shared, ob_type
(Include/object.h):
- immortal: ob_ref_local is UINT32_MAX (_Py_IMMORTAL_REFCNT_LOCAL, Include/refcount.h);
- deferred: _PyGC_BITS_DEFERRED in ob_gc_bits (Include/internal/pycore_gc.h); classes among them are counted
  by each thread for itself (_Py_INCREF_TYPE, Include/internal/pycore_object.h);
- else biased: ob_ref_local by the thread of ob_tid, ob_ref_shared by all others; its two lowest bits say that
  it was merged (_Py_REF_MERGED), and then nobody owns it.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ftdiag.model import Counting, ObjectFacts
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.objects import NotAnObject, ObjectReader

HEADER: Final = struct.Struct("<QHBBIqQ")
OBJECT_MUTEX_OFFSET: Final = 10
"""`PyObject.ob_mutex` of free-threaded builds (Include/object.h)."""
IMMORTAL: Final = 0xFFFF_FFFF
_DEFERRED: Final = 1 << 6
_SHARED_FLAGS: Final = 3
"""_Py_REF_SHARED_FLAG_MASK: 0 never counted by another thread, 1 maybe weakref, 2 queued, 3 merged."""
_MERGED: Final = 3
_SHARED_SHIFT: Final = 2
_TPFLAGS_TYPE_SUBCLASS: Final = 1 << 31


class Counted(NamedTuple):
    """An object: its facts, its type, and the word in which other threads count."""

    facts: ObjectFacts
    type_name: str
    shared: int

    @property
    def seen(self) -> bool:
        """Whether its header shows that another thread counted."""
        return self.shared != 0

    def private_to(self, ident: int) -> bool:
        """Whether only this thread, by `threading.get_ident()`, has it."""
        immortal = self.facts.counting is Counting.IMMORTAL
        return not immortal and self.facts.owner == ident and self.shared == 0


def counted(memory: RemoteMemory, objects: ObjectReader, address: int) -> Counted:
    """What the header of an object says. Raises NotAnObject, MemoryReadError."""
    owner, _, _, gc_bits, local, shared, type_address = HEADER.unpack(memory.read(address, HEADER.size))
    metatype = objects.type_of(type_address)
    if not objects.flags_of(metatype) & _TPFLAGS_TYPE_SUBCLASS:
        raise NotAnObject(f"no object at {address:#x}")
    kind = counting(
        gc_bits, local, shared, of_class=bool(objects.flags_of(type_address) & _TPFLAGS_TYPE_SUBCLASS)
    )
    owned = kind in (Counting.BIASED, Counting.SHARED, Counting.DEFERRED, Counting.PER_THREAD)
    facts = ObjectFacts(address, kind, owner if owned else 0)
    return Counted(facts, objects.type_name(type_address), shared)


def counting(gc_bits: int, local: int, shared: int, *, of_class: bool) -> Counting:
    """How an object with such a header is counted; `of_class`: it is a class."""
    if local == IMMORTAL:
        return Counting.IMMORTAL
    if gc_bits & _DEFERRED:
        return Counting.PER_THREAD if of_class else Counting.DEFERRED
    if shared & _SHARED_FLAGS == _MERGED:
        return Counting.MERGED
    return Counting.SHARED if shared >> _SHARED_SHIFT or shared & _SHARED_FLAGS else Counting.BIASED
