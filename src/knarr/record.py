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

    class _RecordType(type):
        def __new__(mcls, name, bases, namespace):
            if not bases:
                return super().__new__(mcls, name, (tuple,), namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace.pop(field) for field in fields if field in namespace}
            for index, field in enumerate(fields):
                namespace[field] = _tuplegetter(index, None)
            namespace.update(_fields=fields, _field_defaults=defaults, __match_args__=fields, __slots__=())
            namespace.setdefault("__new__", _constructor(name, fields, defaults))
            return super().__new__(mcls, name, bases, namespace)

    def _constructor(name, fields, defaults):
        size = len(fields)
        make = tuple.__new__

        def __new__(cls, *args, **kwargs):
            given = len(args)
            if given == size and not kwargs:
                return make(cls, args)
            if given > size:
                raise TypeError(f"{name} takes {size} fields, {given} were given")
            values = list(args)
            for field in fields[given:]:
                if field in kwargs:
                    values.append(kwargs.pop(field))
                elif field in defaults:
                    values.append(defaults[field])
                else:
                    raise TypeError(f"{name} misses its field {field!r}")
            if kwargs:
                raise TypeError(f"{name} has no field {next(iter(kwargs))!r}")
            return make(cls, values)

        return __new__

    class Record(metaclass=_RecordType):
        __slots__ = ()

        def _replace(self, **changes):
            values = [changes.pop(f, v) for f, v in zip(self._fields, self)]
            if changes:
                raise TypeError(f"{type(self).__name__} has no field {next(iter(changes))!r}")
            return tuple.__new__(type(self), values)

        def _asdict(self):
            return dict(zip(self._fields, self))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            body = ", ".join(f"{f}={v!r}" for f, v in zip(self._fields, self))
            return f"{type(self).__name__}({body})"


__all__ = ["Record"]
