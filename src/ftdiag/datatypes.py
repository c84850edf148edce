"""Dataclasses whose methods are made when they are first used: for processes that must start fast.

In: classes with annotated fields, as `dataclasses.dataclass(slots=True)` takes them, frozen or not. Out:
classes that behave as its do, with `dataclasses.replace`, `fields` and `asdict`, too.

The standard library compiles up to six functions for each class when it is defined, and imports `inspect`:
with the types of ours that was a third of the CPU time until the first tick of a sampler, most of it for
classes that it never makes an instance of. Here only `__init__` is compiled, when the first instance is made.
For a type checker these are the standard library's.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, fields, replace
else:
    _MISSING = object()
    _FIELDS = "__lazy_fields__"
    _INIT_NAMES = "__lazy_init_names__"

    class _Field:
        """One field; the arguments are those of `dataclasses.field`."""

        __slots__ = ("compare", "default", "factory", "init", "kw_only", "name", "repr", "type")

        def __init__(self, default, factory, init, repr_, compare, kw_only):
            self.name = self.type = ""
            self.default = default
            self.factory = factory
            self.init = init
            self.repr = repr_
            self.compare = compare
            self.kw_only = kw_only

    def field(*, default=_MISSING, default_factory=_MISSING, init=True, compare=True, kw_only=None, **more):
        """As `dataclasses.field`, without what is not used here."""
        return _Field(default, default_factory, init, more.pop("repr", True), compare, kw_only, **more)

    def dataclass(cls=None, /, *, slots=False, frozen=False, eq=True, kw_only=False):
        """As `dataclasses.dataclass`; always with slots, which must be said."""
        if not slots:
            raise TypeError("only dataclasses with slots=True are made here")

        def make(cls):
            return _make(cls, frozen, eq, kw_only)

        return make if cls is None else make(cls)

    def _make(cls, frozen, eq, kw_only):
        known = {}
        inherited = set()
        for base in cls.__mro__[-1:0:-1]:
            known.update(base.__dict__.get(_FIELDS, ()))
            inherited.update(base.__dict__.get("__slots__", ()))
        own = {}
        for name, annotation in cls.__annotations__.items():
            if "ClassVar" in str(annotation).partition("[")[0]:
                continue
            one = cls.__dict__.get(name, _MISSING)
            if not isinstance(one, _Field):
                if isinstance(one, (list, dict, set)):
                    raise ValueError(f"mutable default for {name}: use field(default_factory=...)")
                one = _Field(one, _MISSING, True, True, True, None)
            one.name, one.type = name, annotation
            one.kw_only = kw_only if one.kw_only is None else one.kw_only
            own[name] = one
        known.update(own)
        namespace = dict(cls.__dict__)
        for name in (*own, "__dict__", "__weakref__"):
            namespace.pop(name, None)
        namespace["__slots__"] = tuple(name for name in own if name not in inherited)
        namespace[_FIELDS] = known
        namespace["__match_args__"] = tuple(
            name for name, one in known.items() if one.init and not one.kw_only
        )
        namespace["__dataclass_fields__"] = _Standard("__dataclass_fields__")
        namespace["__dataclass_params__"] = _Standard("__dataclass_params__")
        namespace.setdefault("__repr__", _repr)
        namespace["__replace__"] = replace
        compared = tuple(name for name, one in known.items() if one.compare)
        if eq:
            namespace["__eq__"] = _equality(compared)
            if namespace.get("__hash__") is None:
                namespace["__hash__"] = _hashing(compared) if frozen else None
        if frozen:
            namespace["__setattr__"], namespace["__delattr__"] = _refuse_set, _refuse_delete
            namespace["__getstate__"], namespace["__setstate__"] = _get_state, _set_state
        if "__init__" in namespace:
            raise TypeError(f"{cls.__name__} has an __init__ of its own")

        def first_init(self, *arguments, **keywords):
            init = made.__init__ = _compiled_init(made, frozen)
            init(self, *arguments, **keywords)

        namespace["__init__"] = first_init
        namespace["__lazy_frozen__"] = frozen
        made = type(cls)(cls.__name__, cls.__bases__, namespace)
        return made

    def _compiled_init(cls, frozen):
        """The initializer of a class, which the standard library would have made when it was defined."""
        names = {"_factory": _MISSING}
        order, keywords, body = [], [], []
        for name, one in getattr(cls, _FIELDS).items():
            value = name
            if one.factory is not _MISSING:
                names[f"_make_{name}"] = one.factory
                value = f"_make_{name}()"
                if one.init:
                    value = f"{value} if {name} is _factory else {name}"
                parameter = f"{name}=_factory"
            elif one.default is not _MISSING:
                names[f"_default_{name}"] = one.default
                if not one.init:
                    value = f"_default_{name}"
                parameter = f"{name}=_default_{name}"
            else:
                parameter = name
            if one.init:
                (keywords if one.kw_only else order).append(parameter)
            elif value == name:
                continue  # set by __post_init__
            if frozen:
                names[f"_set_{name}"] = getattr(cls, name).__set__
                body.append(f"_set_{name}(self, {value})")
            else:
                body.append(f"self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            body.append("self.__post_init__()")
        parameters = ", ".join(("self", *order, *(("*", *keywords) if keywords else ())))
        exec(f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"]), names)  # noqa: S102
        init = names["__init__"]
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        return init

    def _equality(names):
        values = _values(names)

        def __eq__(self, other):  # noqa: N807
            if other.__class__ is self.__class__:
                return values(self) == values(other)
            return NotImplemented

        return __eq__

    def _hashing(names):
        values = _values(names)

        def __hash__(self):  # noqa: N807
            return hash(values(self))

        return __hash__

    def _values(names):
        return attrgetter(*names) if names else (lambda self: ())

    def _repr(self):
        shown = (
            f"{name}={getattr(self, name)!r}" for name, one in getattr(self, _FIELDS).items() if one.repr
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _refuse_set(self, name, value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_delete(self, name):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _get_state(self):
        return [getattr(self, name) for name in getattr(self, _FIELDS)]

    def _set_state(self, state):
        for name, value in zip(getattr(self, _FIELDS), state, strict=True):
            object.__setattr__(self, name, value)

    class _Standard:
        """What the standard library's functions look for in a class; made when they do."""

        def __init__(self, name):
            self._name = name

        def __get__(self, instance, owner):
            import dataclasses

            known = getattr(owner, _FIELDS)
            bare = {"init": False, "repr": False, "eq": False, "frozen": owner.__lazy_frozen__}
            made = {}
            for name, one in known.items():
                made[name] = dataclasses.field(
                    **({"default": one.default} if one.default is not _MISSING else {}),
                    **({"default_factory": one.factory} if one.factory is not _MISSING else {}),
                    init=one.init,
                    repr=one.repr,
                    compare=one.compare,
                    kw_only=one.kw_only,
                )
            # The standard library's own decorator fills in the rest, on a class of no further use.
            like = type(
                owner.__name__, (), {"__annotations__": {n: one.type for n, one in known.items()}, **made}
            )
            like.__module__ = owner.__module__
            like = dataclasses.dataclass(**bare)(like)
            for name in ("__dataclass_fields__", "__dataclass_params__"):
                if isinstance(owner.__dict__.get(name), _Standard):
                    setattr(owner, name, getattr(like, name))
            return getattr(like, self._name)

    def fields(of):
        """As `dataclasses.fields`, of a class or instance made here: only their names are the same."""
        return tuple(getattr(of, _FIELDS).values())

    def replace(instance, /, **changes):
        """As `dataclasses.replace`, also of a dataclass that was not made here."""
        if not hasattr(instance, _FIELDS):
            from dataclasses import replace as standard

            return standard(instance, **changes)
        cls = instance.__class__
        names = cls.__dict__.get(_INIT_NAMES)
        if names is None:
            names = tuple(name for name, one in getattr(cls, _FIELDS).items() if one.init)
            setattr(cls, _INIT_NAMES, names)
        for name in names:
            if name not in changes:
                changes[name] = getattr(instance, name)
        if len(changes) > len(names):
            for name, one in getattr(cls, _FIELDS).items():
                if not one.init and name in changes:
                    raise ValueError(f"field {name} is declared with init=False")
        return cls(**changes)

    def asdict(instance):
        """As `dataclasses.asdict`; of tuples, lists and dicts anew, all else as it is."""
        return {name: _plain(getattr(instance, name)) for name in getattr(instance, _FIELDS)}

    def _plain(value):
        if hasattr(type(value), _FIELDS):
            return asdict(value)
        if isinstance(value, (list, tuple)):
            inside = [_plain(one) for one in value]
            if hasattr(value, "_fields"):
                return type(value)(*inside)
            return type(value)(inside)
        if isinstance(value, dict):
            return {_plain(key): _plain(one) for key, one in value.items()}
        return value


__all__ = ["asdict", "dataclass", "field", "fields", "replace"]
