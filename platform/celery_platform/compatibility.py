"""
Write down what the tasks of this code take, and say what a newer code would break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_platform.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["breaks", "check", "schemas"]

FORMAT = 1


def schemas(app: Any) -> dict[str, Any]:
    """
    Return the tasks of *app*, each with its version, names, queue and parameters; plain Celery tasks are left out.
    """
    app.loader.import_default_modules()
    tasks = {task.name: task for task in app.tasks.values() if hasattr(task, "contract")}
    return {"format": FORMAT, "tasks": {name: _schema(tasks[name]) for name in sorted(tasks)}}


def _schema(task: Any) -> dict[str, Any]:
    contract, policy = task.contract, task.policy
    slots = {slot.name: slot for slot in (*contract.positional, *contract.named.values())}
    return {
        "version": policy.version,
        "upcasts": sorted(task.upcasters),
        "aliases": list(policy.aliases),
        "queue": policy.queue,
        "positional": [slot.name for slot in contract.positional],
        "parameters": {
            name: {"type": slot.expected, "required": name in contract.required} for name, slot in slots.items()
        },
        "extra": contract.extra is not None,
        "extra_named": contract.extra_named is not None,
    }


def check(document: Any, where: str) -> dict[str, Any]:
    """
    Return *document* when it is an export of task schemas.

    Raises `ConfigurationError` that names the place otherwise.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ConfigurationError(
            f"{where}: expected the output of `celery -A platform registry --export`, format {FORMAT}."
        )
    for name, schema in document.get("tasks", {}).items():
        missing = {"version", "upcasts", "aliases", "positional", "parameters"} - set(schema)
        if missing:
            raise ConfigurationError(f"{where}: the task {name!r} lacks {', '.join(sorted(missing))}.")
    return document


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """
    Return what calls made by the code of *old* would break on in the code of *new*, a sentence each.
    """
    found: list[str] = []
    served = {alias: name for name, schema in new["tasks"].items() for alias in (name, *schema["aliases"])}
    for name, schema in old["tasks"].items():
        if name not in served:
            found.append(f"{name}: the task is gone. Keep it, or name it in aliases=[…] of the task that replaces it.")
        else:
            found += [f"{name}: {problem}" for problem in _problems(schema, new["tasks"][served[name]])]
    return found


def _problems(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if new["version"] < old["version"]:
        yield f"the version went from {old['version']} back to {new['version']}: calls on their way would wait in vain."
    if new["version"] > old["version"] and old["version"] in new["upcasts"]:
        return  # a function brings old payloads up
    before, after = old["parameters"], new["parameters"]
    taken = new["positional"][: len(old["positional"])]
    if taken != old["positional"] and not new.get("extra"):
        yield f"positional parameters were ({', '.join(old['positional'])}) and are ({', '.join(new['positional'])})."
    for name, parameter in after.items():
        if parameter["required"] and name not in before:
            yield f"{name!r} is new and required. Give it a default, or raise version= and write an @upcast."
        elif parameter["required"] and not before[name]["required"]:
            yield f"{name!r} had a default and is required now."
    for name, parameter in before.items():
        if name not in after and not new.get("extra_named"):
            yield f"{name!r} is gone; calls on their way still name it."
        elif name in after and not _takes(after[name]["type"], parameter["type"]):
            yield f"{name!r} took {parameter['type']} and takes {after[name]['type']} now."


def _takes(new: str, old: str) -> bool:
    accepted = set(_members(new))
    if accepted & {"Any", "anything", "object"}:
        return True
    return all(one in accepted or (one == "int" and "float" in accepted) for one in _members(old))


def _members(text: str) -> Iterator[str]:
    depth, member = 0, ""
    for letter in f"{text}|":
        depth += (letter in "[(") - (letter in "])")
        if letter == "|" and depth == 0:
            yield member.strip()
            member = ""
        else:
            member += letter
