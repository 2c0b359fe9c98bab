"""Record: an immutable tuple with named, typed fields that costs one class statement to define.

`typing.NamedTuple` would do, but importing `typing` costs as much as half an interpreter start, and
`collections.namedtuple` evaluates source text per class. To a type checker a Record *is* a NamedTuple.

    class Mount(Record):
        destination: str
        options: tuple[str, ...] = ()

Modules that define records begin with `from __future__ import annotations`: the annotations stay text,
which `knarr.oci.document` reads when it decodes JSON into records.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as Record
else:
    from _collections import _tuplegetter

    # A getter knows its position only: all records share them.
    _getters = [_tuplegetter(index, None) for index in range(20)]

    class _RecordType(type):
        def __new__(mcls, name, bases, namespace):
            if not bases:
                return type.__new__(mcls, name, (tuple,), namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            while len(_getters) < len(fields):
                _getters.append(_tuplegetter(len(_getters), None))
            namespace["_field_defaults"] = {field: namespace[field] for field in fields if field in namespace}
            namespace["_fields"] = namespace["__match_args__"] = fields
            namespace["__slots__"] = ()
            namespace.update(zip(fields, _getters))
            return type.__new__(mcls, name, bases, namespace)

    _make = tuple.__new__

    class Record(metaclass=_RecordType):
        __slots__ = ()

        # One for all: a function of its own for each class is a quarter of what a class costs.
        def __new__(cls, *args, **kwargs):
            fields = cls._fields
            given = len(args)
            if given == len(fields) and not kwargs:
                return _make(cls, args)
            if given > len(fields):
                raise TypeError(f"{cls.__name__} takes {len(fields)} fields, {given} were given")
            defaults = cls._field_defaults
            values = list(args)
            for field in fields[given:]:
                if field in kwargs:
                    values.append(kwargs.pop(field))
                elif field in defaults:
                    values.append(defaults[field])
                else:
                    raise TypeError(f"{cls.__name__} misses its field {field!r}")
            if kwargs:
                raise TypeError(f"{cls.__name__} has no field {next(iter(kwargs))!r}")
            return _make(cls, values)

        def _replace(self, **changes):
            values = [changes.pop(f, v) for f, v in zip(self._fields, self)]
            if changes:
                raise TypeError(f"{type(self).__name__} has no field {next(iter(changes))!r}")
            return _make(type(self), values)

        def _asdict(self):
            return dict(zip(self._fields, self))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            body = ", ".join(f"{f}={v!r}" for f, v in zip(self._fields, self))
            return f"{type(self).__name__}({body})"


__all__ = ["Record"]
