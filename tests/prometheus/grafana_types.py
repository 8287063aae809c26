"""Checks a dashboard (JSON) against Grafana's published types in grafana-foundation-sdk.

The library drops unknown fields and checks no types. So this script compares the file with what the library
writes back, and checks every value against its field's declared type. It prints the errors, and exits with 1
if there are any.
"""

import enum
import json
import sys
import typing

from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models import common, dashboard

NUMBERS = {int: int, float: (int, float)}


def lost(before, after, path):
    """The fields that the library dropped or changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: no such field"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}[{number}]")
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield f"{path}: {before!r} becomes {after!r}"


def misfit(value, declared, path):
    """The values of another type than declared."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if declared in (object, typing.Any) or declared is type(value):
        if hasattr(value, "to_json"):
            yield from fields(value, path)
    elif origin is typing.Union:
        # The best match; None matches only None.
        possible = [one for one in arguments if (one is type(None)) == (value is None)]
        found = [list(misfit(value, one, path)) for one in possible]
        yield from min(found, key=len, default=[f"{path}: {value!r} is no {declared}"])
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{path}: {value!r} is none of {arguments}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: {value!r} is no list"
            return
        for number, one in enumerate(value):
            yield from misfit(one, arguments[0], f"{path}[{number}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no object"
            return
        for key, one in value.items():
            yield from misfit(one, arguments[1], f"{path}.{key}")
    elif declared in NUMBERS:
        if not isinstance(value, NUMBERS[declared]) or isinstance(value, bool):
            yield f"{path}: {value!r} is no {declared.__name__}"
    elif isinstance(declared, type) and issubclass(declared, enum.Enum):
        if value not in [one.value for one in declared]:
            yield f"{path}: {value!r} is none of {[one.value for one in declared]}"
    elif isinstance(declared, type) and hasattr(declared, "from_json") and isinstance(value, dict):
        # The library reads no deeper.
        read = declared.from_json(value)
        yield from lost(value, plain(read), path)
        yield from fields(read, path)
    elif isinstance(declared, type) and isinstance(value, declared):
        if hasattr(value, "to_json"):
            yield from fields(value, path)
    else:
        yield f"{path}: {value!r} is no {declared}"


def fields(model, path):
    if type(model).__name__ == "UnknownDataquery":
        yield f"{path}: a query of no known kind"
        return
    for name, declared in typing.get_type_hints(type(model)).items():
        yield from misfit(getattr(model, name), declared, f"{path}.{name}")
    # The library does not declare the type of a table's fields.
    if isinstance(model, dashboard.Panel) and model.type_val == "table":
        yield from misfit(model.field_config.defaults.custom, common.TableFieldOptions, f"{path}.custom")


def plain(model):
    return json.loads(json.dumps(model, cls=encoder.JSONEncoder))


def main():
    plugins.register_default_plugins()
    with open(sys.argv[1], encoding="utf-8") as file:
        before = json.load(file)
    read = dashboard.Dashboard.from_json(before)
    found = sorted({*lost(before, plain(read), ""), *fields(read, "")})
    print("\n".join(found))
    sys.exit(1 if found else 0)


main()
