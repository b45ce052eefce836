"""
Read a task's signature once, and hold every call of it to that signature.
"""

from __future__ import annotations

import inspect
import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, get_type_hints

from celery_platform.errors import PayloadInvalid, PolicyError, did_you_mean
from celery_platform.payload.annotations import codec_for, type_text, without_verdicts
from celery_platform.payload.codecs import Mismatch
from celery_platform.payload.private import MASK
from celery_platform.payload.redaction import texts_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from celery_platform.payload.codecs import Codec

    When = Literal["enqueued", "run", "returned"]

__all__ = ["Contract", "Slot"]

Args = Sequence[Any]
Kwargs = Mapping[str, Any]

_REPR_LIMIT = 1024
_REMEDY = "Pass values of these types or their JSON forms; nothing is converted silently."
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 256
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = 32


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter: its name, the text of its annotation, and how its values travel."""

    name: str
    expected: str
    codec: Codec


@dataclass(frozen=True, slots=True)
class Contract:
    """
    What a task takes and gives, built once by `Contract.of`.

    *positional* are the slots that positional arguments fill in order, *named* those that keywords may fill,
    *required* those without a default; *extra* and *extra_named* stand for ``*args`` and ``**kwargs``. *private* names
    the parameters that hold a `Secret` or `PII` anywhere inside.
    """

    task: str
    usage: str
    positional: tuple[Slot, ...]
    named: Mapping[str, Slot]
    required: frozenset[str]
    extra: Slot | None
    extra_named: Slot | None
    result: Slot | None
    private: frozenset[str]
    exact: tuple[frozenset[type], ...]
    least: int

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        bound: bool = False,
        *,
        task: str | None = None,
        encode: Callable[[Any], object] = json.dumps,
    ) -> Contract:
        """
        Return the contract of *function*; *bound* tells that its first parameter is the task itself.

        *encode* is what will write the message: values of parameters without annotation pass when it can write them.
        Raises `PolicyError` for annotations that cannot be resolved or whose values cannot travel.
        """
        task = task or f"{function.__module__}.{function.__name__}"
        parameters = _parameters(function, task, bound=bound)
        slots = {p.name: _slot(function, p, task, encode) for p in parameters}
        by_kind = {kind: [p for p in parameters if p.kind is kind] for kind in inspect._ParameterKind}  # noqa: SLF001
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        required = frozenset(
            p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        )
        only_named = [p.name for p in by_kind[inspect.Parameter.KEYWORD_ONLY]]
        return cls(
            task=task,
            usage=_usage(function, parameters, slots),
            positional=tuple(slots[p.name] for p in positional),
            named={p.name: slots[p.name] for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)},
            required=required,
            extra=next((slots[p.name] for p in by_kind[inspect.Parameter.VAR_POSITIONAL]), None),
            extra_named=next((slots[p.name] for p in by_kind[inspect.Parameter.VAR_KEYWORD]), None),
            result=_result(function, task),
            private=frozenset(slot.name for slot in slots.values() if slot.codec.private),
            exact=tuple(slots[p.name].codec.exact for p in positional),
            # Above every count of arguments when a keyword is required: the short cut then never fits.
            least=len(positional) + 1
            if required & set(only_named)
            else len([p for p in positional if p.name in required]),
        )

    @property
    def private_result(self) -> bool:
        """
        Tell whether the return annotation holds a `Secret` or `PII`, so that no log or event may show the result.
        """
        return self.result is not None and self.result.codec.private

    def dump(self, args: Args | None, kwargs: Kwargs | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """
        Return the arguments in their JSON form, as they travel.

        Python values and their JSON forms are both taken, since a chain hands on JSON forms; nothing is converted
        silently (``"2"`` is no ``int``). Raises `PayloadInvalid`, which shows types and never a value of the caller's.
        """
        args, kwargs = args or (), kwargs or {}
        if not kwargs and self._plain(args):
            return tuple(args), {}
        return self._convert(args, kwargs, "enqueued")

    def load(self, args: Args | None, kwargs: Kwargs | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """
        Return the arguments as the Python values that the annotations name.

        Raises `PayloadInvalid` by the same check as `dump`.
        """
        args, kwargs = args or (), kwargs or {}
        if not kwargs and self._plain(args):
            return tuple(args), {}
        return self._convert(args, kwargs, "run")

    def dump_result(self, value: Any) -> Any:
        """
        Return the JSON form of a return value; without a return annotation, or with ``-> None``, the value itself.

        Raises `PayloadInvalid` when it breaks the annotation.
        """
        return value if self.result is None else self._one(self.result, self.result.codec.dump, value)

    def load_result(self, value: Any) -> Any:
        """
        Return the Python value of a result that `dump_result` wrote.

        Raises `PayloadInvalid` when it breaks the annotation.
        """
        return value if self.result is None else self._one(self.result, self.result.codec.load, value)

    def argsrepr(self, args: Args | None, kwargs: Kwargs | None) -> tuple[str, str] | None:
        """
        Return texts of the arguments that are safe to show, each of at most 1024 characters.

        Returns None when no parameter is private: any other text of them is then as good.
        """
        if not self.private:
            return None
        shown = [_shown(slot, value) for slot, value in zip(self._positional_slots(), args or (), strict=False)]
        named = [f"{name!r}: {_shown(self._slot_of(name), value)}" for name, value in (kwargs or {}).items()]
        inside = ", ".join(shown) + ("," if len(shown) == 1 else "")
        return _cut(f"({inside})"), _cut(f"{{{', '.join(named)}}}")

    def secrets_in(self, args: Args | None, kwargs: Kwargs | None) -> tuple[str, ...]:
        """
        Return every text of a private value among the arguments, longest first, for `scrub`.

        A private argument that breaks its annotation counts as private from end to end.
        """
        if not self.private:
            return ()
        pairs = chain(
            zip(self._positional_slots(), args or (), strict=False),
            ((self._slot_of(name), value) for name, value in (kwargs or {}).items()),
        )
        return texts_in(_private_part(slot, value) for slot, value in pairs if slot is None or slot.codec.private)

    def _plain(self, args: Args) -> bool:
        if not self.least <= len(args) <= len(self.exact):
            return False
        # Spelled out: every call passes here twice, and a generator costs more than the checks.
        for value, kinds in zip(args, self.exact, strict=False):  # noqa: SIM110
            if type(value) not in kinds:
                return False
        return True

    def _convert(self, args: Args, kwargs: Kwargs, when: When) -> tuple[tuple[Any, ...], dict[str, Any]]:
        problems = list(self._misfits(args, kwargs))
        if problems:
            raise PayloadInvalid(self.task, problems, when, f"Call it as {self.usage}.")
        taken = [_try(slot, value, when, problems) for slot, value in zip(self._known_slots(), args, strict=False)]
        named = {name: _try(self._known_slot(name), value, when, problems) for name, value in kwargs.items()}
        if problems:
            raise PayloadInvalid(self.task, problems, when, _REMEDY)
        return tuple(taken), named

    def _misfits(self, args: Args, kwargs: Kwargs) -> Iterator[str]:
        if self.extra is None and len(args) > len(self.positional):
            yield f"takes {len(self.positional)} positional argument(s), got {len(args)}"
        filled = {slot.name for slot in self.positional[: len(args)]}
        for name in kwargs:
            if name in self.named:
                if name in filled:
                    yield f"{name!r} is given twice, by position and by name"
            elif self.extra_named is None:
                hint = did_you_mean(str(name), self.named).strip()
                yield f"has no parameter {name!r} to name{f' ({hint})' if hint else ''}"
        missing = self.required - filled - (kwargs.keys() & self.named.keys())
        if missing:
            order = [slot.name for slot in chain(self.positional, self.named.values())]
            yield f"missing {', '.join(repr(name) for name in dict.fromkeys(order) if name in missing)}"

    def _known_slots(self) -> Iterator[Slot]:
        return chain(self.positional, repeat(self.extra)) if self.extra is not None else iter(self.positional)

    def _known_slot(self, name: str) -> Slot:
        slot = self._slot_of(name)
        if slot is None:
            raise KeyError(name)
        return slot

    def _positional_slots(self) -> Iterator[Slot | None]:
        return chain(self.positional, repeat(self.extra))

    def _slot_of(self, name: str) -> Slot | None:
        return self.named.get(name, self.extra_named)

    def _one(self, slot: Slot, convert: Callable[[Any], Any], value: Any) -> Any:
        try:
            return convert(value)
        except Mismatch as mismatch:
            problem = _problem("the return value", slot, value, mismatch)
        raise PayloadInvalid(
            self.task, [problem], "returned", "Return a value of the annotated type, or mend the annotation."
        )


def _try(slot: Slot, value: Any, when: When, problems: list[str]) -> Any:
    try:
        return slot.codec.dump(value) if when == "enqueued" else slot.codec.load(value)
    except Mismatch as mismatch:
        problems.append(_problem(repr(slot.name), slot, value, mismatch))
        return None


def _problem(label: str, slot: Slot, value: Any, mismatch: Mismatch) -> str:
    text = f"{label} expected {slot.expected}, got {type(value).__name__}"
    return f"{text}: {'; '.join(mismatch.reasons)}" if mismatch.reasons else text


def _shown(slot: Slot | None, value: Any) -> str:
    return MASK if slot is None or slot.codec.private else _short.repr(value)


def _cut(text: str) -> str:
    return text if len(text) <= _REPR_LIMIT else f"{text[: _REPR_LIMIT - 3]}..."


def _private_part(slot: Slot | None, value: Any) -> tuple[Any, bool]:
    if slot is None:
        return value, True
    try:
        return slot.codec.load(value), False
    except Mismatch:
        return value, True


def _parameters(function: Callable[..., Any], task: str, *, bound: bool) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (NameError, ValueError) as error:
        raise PolicyError(f"{task}: its signature cannot be read ({error}).") from error
    if not bound:
        return parameters
    if not parameters:
        raise PolicyError(
            f"{task}: bind=True hands over the task itself, but the function takes no parameter. Add self."
        )
    return parameters if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL else parameters[1:]


def _slot(
    function: Callable[..., Any], parameter: inspect.Parameter, task: str, encode: Callable[[Any], object]
) -> Slot:
    where = f"{task}: parameter {parameter.name!r}"
    annotation = _resolved(function, parameter.annotation, where)
    codec = codec_for(annotation, where=where, encode=encode)
    return Slot(parameter.name, type_text(annotation), codec)


def _result(function: Callable[..., Any], task: str) -> Slot | None:
    where = f"{task}: the return value"
    annotation = without_verdicts(_resolved(function, inspect.signature(function).return_annotation, where))
    if annotation in (inspect.Parameter.empty, None, type(None)):
        return None
    return Slot("return", type_text(annotation), codec_for(annotation, where=where))


def _resolved(function: Callable[..., Any], annotation: Any, where: str) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    function = inspect.unwrap(function)
    names = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
    holder = type("Holder", (), {"__annotations__": {"it": annotation}})
    try:
        return get_type_hints(holder, getattr(function, "__globals__", {}), dict(names), include_extras=True)["it"]
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise PolicyError(
            f"{where} is annotated {annotation!r}, which cannot be resolved when the module is imported ({error}). "
            "Annotations are the task's contract: import the name at module level, outside of `if TYPE_CHECKING`."
        ) from error


class _Written(str):
    """Text that a signature prints as it stands."""

    __slots__ = ()
    __repr__ = str.__str__


def _usage(function: Callable[..., Any], parameters: Sequence[inspect.Parameter], slots: Mapping[str, Slot]) -> str:
    def written(p: inspect.Parameter) -> inspect.Parameter:
        # Defaults are not spelled out: they may be long, or private.
        return p.replace(
            annotation=p.annotation if p.annotation is p.empty else _Written(slots[p.name].expected),
            default=p.default if p.default is p.empty else _Written("..."),
        )

    return f"{function.__name__}{inspect.Signature(list(map(written, parameters)))}"
