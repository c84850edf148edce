"""Dataclasses that are made lazily behave as the standard library's: each is made by both and compared."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from array import array
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ftdiag import datatypes, model

MAKERS = [pytest.param(dataclasses, id="standard"), pytest.param(datatypes, id="lazy")]


def point(library: Any) -> Any:
    """A frozen type with defaults, a method and a class variable."""

    @library.dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: str = "q"
        z: tuple[int, ...] = ()
        LIMIT: ClassVar[int] = 7

        def doubled(self) -> int:
            return 2 * self.x

    return Point


def columns(library: Any) -> Any:
    """One that changes, with a factory, inherited from, with a field that is not compared or shown."""

    @library.dataclass(slots=True)
    class Columns:
        name: str
        values: Any = library.field(default_factory=lambda: array("q"))

    @library.dataclass(slots=True)
    class More(Columns):
        of: Any = None
        count: int = library.field(default=3, kw_only=True)
        cache: int = library.field(default=0, compare=False, repr=False)
        later: int = library.field(default=5, init=False)

    return More


def checked(library: Any) -> Any:
    """One that looks at what it is given."""

    @library.dataclass(frozen=True, slots=True)
    class Checked:
        rate: float

        def __post_init__(self) -> None:
            if self.rate < 0:
                raise ValueError("negative")

    return Checked


def identity(library: Any) -> Any:
    """One that equals only itself."""

    @library.dataclass(frozen=True, slots=True, eq=False)
    class Identity:
        x: int

    return Identity


@pytest.mark.parametrize("library", MAKERS)
class TestBehaviour:
    def test_frozen(self, library: Any) -> None:
        kind = point(library)
        one = kind(1, z=(2,))
        assert (one.x, one.y, one.z, one.doubled(), kind.LIMIT) == (1, "q", (2,), 2, 7)
        assert one == kind(1, "q", (2,))
        assert one != kind(2, "q", (2,))
        assert one != (1, "q", (2,))
        assert hash(one) == hash(kind(1, "q", (2,)))
        assert repr(one).endswith("Point(x=1, y='q', z=(2,))")
        assert kind.__match_args__ == ("x", "y", "z")
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.x = 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            del one.x
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            kind()
        with pytest.raises(TypeError, match="unexpected keyword argument 'w'"):
            kind(1, w=2)
        assert not hasattr(one, "__dict__")
        assert copy.copy(one) == copy.deepcopy(one) == one

    def test_changing_and_inheriting(self, library: Any) -> None:
        kind = columns(library)
        one, other = kind("a"), kind("a", array("q", [1]), count=4, cache=9)
        one.values.append(1)
        assert kind("b").values == array("q")
        one.count, one.cache = 4, 8
        assert one == other
        assert (other.later, other.of) == (5, None)
        assert repr(other).endswith("More(name='a', values=array('q', [1]), of=None, count=4, later=5)")
        assert kind.__match_args__ == ("name", "values", "of", "cache")
        with pytest.raises(TypeError, match="unhashable"):
            hash(one)
        with pytest.raises(TypeError):
            kind("a", later=6)

    def test_what_is_refused(self, library: Any) -> None:
        assert checked(library)(1.0).rate == 1.0
        with pytest.raises(ValueError, match="negative"):
            checked(library)(-1.0)
        with pytest.raises(ValueError, match="mutable default"):
            library.dataclass(slots=True)(type("A", (), {"__annotations__": {"x": "list"}, "x": []}))

    def test_identity(self, library: Any) -> None:
        one = identity(library)(1)
        assert one == one
        assert one != identity(library)(1)
        assert len({one, one}) == 1

    @pytest.mark.parametrize("functions", MAKERS)
    def test_functions_of_both_libraries(self, library: Any, functions: Any) -> None:
        if functions is datatypes and library is dataclasses:
            return  # ours are for ours alone
        inner, outer = point(library)(1), columns(library)
        one = outer("a", [inner], of={"k": (inner,)})
        plain = {"x": 1, "y": "q", "z": ()}
        assert functions.replace(inner, x=5) == point(library)(5) or functions.replace(inner, x=5).x == 5
        assert functions.replace(one, name="b").name == "b"
        with pytest.raises(ValueError, match="later is declared with init=False"):
            functions.replace(one, later=1)
        assert functions.asdict(one) == {
            "name": "a", "values": [plain], "of": {"k": (plain,)}, "count": 3, "cache": 0, "later": 5
        }  # fmt: skip
        assert [each.name for each in functions.fields(outer)] == [
            "name", "values", "of", "count", "cache", "later"
        ]  # fmt: skip


def test_the_standard_library_takes_them_for_its_own() -> None:
    # GIVEN a type of ours, THEN it can be inherited from by one of the standard library's
    base = point(datatypes)

    @dataclasses.dataclass(frozen=True, slots=True)
    class Further(base):  # type: ignore[misc, valid-type]
        w: int = 4

    assert dataclasses.is_dataclass(base)
    assert dataclasses.asdict(Further(1)) == {"x": 1, "y": "q", "z": (), "w": 4}
    assert pickle.loads(pickle.dumps(model.Frame("a", "b", 1))) == model.Frame("a", "b", 1)


def own_init() -> object:
    """A class that has an initializer already."""

    @datatypes.dataclass(slots=True)
    class Own:
        x: int

        def __init__(self) -> None:
            self.x = 1

    return Own


@pytest.mark.parametrize("wrong", [lambda: datatypes.dataclass(type("A", (), {})), own_init])
def test_what_is_not_made(wrong: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        wrong()


def test_a_sampler_starts_without_what_it_does_not_need() -> None:
    # GIVEN all that a sampler imports before its first tick
    script = "import sys; import ftdiag.sampling.process; print(' '.join(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())

    # THEN what takes long to import is not among it
    assert "ftdiag.model" in loaded
    unneeded = {"dataclasses", "inspect", "numpy", "capstone", "click", "rich", "elftools", "psutil"}
    assert not unneeded & loaded


def test_a_data_type_of_somebody_else_can_be_replaced_too() -> None:
    # GIVEN a type of a library, as a theme of the terminal's is one
    @dataclasses.dataclass
    class Theme:
        name: str
        dark: bool = True

    # WHEN one is made of another, THEN it is as the standard library makes it
    assert datatypes.replace(Theme("a"), name="b") == Theme("b")
