"""Reads pickles without running them: globals are names, calls are records of what was asked for.

The stack machine of pickle (PEP 3154) is followed opcode by opcode, as `pickletools` tells them
apart, but nothing is imported, called or allocated on the file's word: a call becomes a `Made` with
the name of the callable and its arguments. What such a record means is for the reader of a known
layout to say. A file that names a global outside the reader's list is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from service.errors import UnsafeModelError

_VALUES = frozenset((
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
))  # fmt: skip
_CONSTANTS: Mapping[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_NOTHING_TO_DO = frozenset(("PROTO", "FRAME"))
_PUTS, _GETS = frozenset(("PUT", "BINPUT", "LONG_BINPUT")), frozenset(("GET", "BINGET", "LONG_BINGET"))
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MALFORMED = (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Global:
    """The name of a class or function; never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(kw_only=True, eq=False)
class Made:
    """What a call would have made."""

    what: Global
    args: tuple[object, ...]
    state: object = None  # handed to __setstate__
    items: dict[object, object] = field(default_factory=dict)  # set one by one
    elements: list[object] = field(default_factory=list)  # appended one by one


@dataclass(frozen=True, eq=False)
class Persistent:
    """A reference to something kept outside the pickle."""

    value: object


def read_pickle(file: BinaryIO, allowed: Collection[Global]) -> object:
    """Read the next pickle of a file, built of plain values, `Global`, `Made` and `Persistent`.

    Args:
        file: At the start of a pickle; left after its end. `read` must not allocate more than there
            is (a BytesIO or a memory map).
        allowed: Globals that the file may name.

    Raises:
        UnsafeModelError: It is no pickle, is damaged, or names anything else.
    """
    machine = _Machine(frozenset(allowed))
    try:
        for opcode, arg, _ in pickletools.genops(file):
            machine.follow(opcode.name, arg)
    except _MALFORMED as exc:
        raise UnsafeModelError(f"not a whole pickle: {exc}") from exc
    return machine.result()


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self, allowed: frozenset[Global]) -> None:
        self._allowed = allowed
        self._stack: list[object] = []
        self._below: list[list[object]] = []  # stacks under each mark
        self._memo: dict[int, object] = {}

    def result(self) -> object:
        """The one value that is left."""
        if len(self._stack) != 1 or self._below:
            raise UnsafeModelError("not a whole pickle: the stack is not empty at its end")
        return self._stack[0]

    def follow(self, name: str, arg: object) -> None:
        """Do what one opcode says, on records."""
        if name in _VALUES:
            self._stack.append(arg)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _PUTS:
            self._memo[_index(arg)] = self._stack[-1]
        elif name in _GETS:
            self._stack.append(self._memo[_index(arg)])
        elif name in _SHORT_TUPLES:
            count = _SHORT_TUPLES[name]
            self._stack[-count:] = [tuple(self._stack[-count:])]
        elif name == "GLOBAL":
            self._push_global(*str(arg).split(" ", 1))
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        elif name in ("PERSID", "BINPERSID"):
            self._stack.append(Persistent(arg if name == "PERSID" else self._stack.pop()))
        elif name not in _NOTHING_TO_DO and name != "STOP":
            raise UnsafeModelError(f"the pickle uses {name}, which no model file needs")

    def _push_global(self, module: str, name: str) -> None:
        found = Global(module, name)
        if found not in self._allowed:
            raise UnsafeModelError(f"the pickle asks for {found}, which no model of this kind needs")
        self._stack.append(found)

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push_global(str(module), str(name))

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _above_mark(self) -> list[object]:
        above, self._stack = self._stack, self._below.pop()
        return above

    def _drop(self) -> None:
        self._above_mark()

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._above_mark()

    def _make(self) -> None:
        args, what = self._stack.pop(), self._stack.pop()
        if not isinstance(what, Global) or not isinstance(args, tuple):
            raise UnsafeModelError("the pickle calls something that is no plain class or function")
        self._stack.append(Made(what=what, args=args))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, Made):
            raise UnsafeModelError("the pickle changes something that it did not make")
        target.state = state

    def _set(self, pairs: list[object]) -> None:
        target = self._stack[-1]
        items = target.items if isinstance(target, Made) else target
        if not isinstance(items, dict):
            raise UnsafeModelError("the pickle sets items of something that is no mapping")
        items.update(zip(_plain(pairs[::2]), pairs[1::2], strict=True))

    def _extend(self, values: list[object]) -> None:
        target = self._stack[-1]
        elements = target.elements if isinstance(target, Made) else target
        if isinstance(elements, set):
            elements.update(_plain(values))
        elif isinstance(elements, list):
            elements.extend(values)
        else:
            raise UnsafeModelError("the pickle appends to something that is no list")

    def _two(self) -> list[object]:
        value, key = self._stack.pop(), self._stack.pop()
        return [key, value]

    def _dict(self) -> None:
        pairs = self._above_mark()
        self._stack.append(dict(zip(_plain(pairs[::2]), pairs[1::2], strict=True)))

    def _push(self, value: object) -> None:
        self._stack.append(value)


_ACTIONS: Mapping[str, Callable[[_Machine], None]] = {
    "STACK_GLOBAL": _Machine._stack_global,
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._drop,
    "DUP": lambda m: m._push(m._stack[-1]),
    "MEMOIZE": _Machine._memoize,
    "REDUCE": _Machine._make,
    "NEWOBJ": _Machine._make,
    "BUILD": _Machine._build,
    "TUPLE": lambda m: m._push(tuple(m._above_mark())),
    "LIST": lambda m: m._push(m._above_mark()),
    "FROZENSET": lambda m: m._push(frozenset(_plain(m._above_mark()))),
    "DICT": _Machine._dict,
    "APPEND": lambda m: m._extend([m._stack.pop()]),
    "APPENDS": lambda m: m._extend(m._above_mark()),
    "ADDITEMS": lambda m: m._extend(m._above_mark()),
    "SETITEM": lambda m: m._set(m._two()),
    "SETITEMS": lambda m: m._set(m._above_mark()),
}


def _plain(keys: list[object]) -> list[object]:
    """Keys and members of sets; nested ones could exhaust the stack when they are hashed."""
    if not all(isinstance(key, str | bytes | int | float | None) for key in keys):
        raise UnsafeModelError("the pickle uses keys that are no names or numbers")
    return keys


def _index(arg: object) -> int:
    if not isinstance(arg, int):
        raise UnsafeModelError("the pickle's memo is not counted in numbers")
    return arg
