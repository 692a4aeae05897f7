"""What the names of a resource's elements decide alone: which must be there, which may not, which rule each other out.

Messages of one kind make resources with the same names again and again, so that is asked once for each set of them.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_OF_NAMES = frozenset({"required", "additionalProperties", "title", "$comment"})


def values_alone(schema: Schema) -> Schema:
    """Return what is left of an object's schema to look at where another object with the same names is valid."""
    left = {word: _left(word, rule) for word, rule in schema.items() if not _by_names({word: rule})}
    return {word: rule for word, rule in left.items() if rule != []}


def _left(word: str, rule: Any) -> Any:
    if word == "properties":
        return {name: one for name, one in rule.items() if not isinstance(one, bool)}
    if word == "allOf":
        return [one for one in map(values_alone, rule) if one]
    return rule


def _by_names(schema: Schema | bool) -> bool:
    """Say whether a schema looks at nothing of an object but its names."""
    return isinstance(schema, bool) or all(_word_by_names(word, rule) for word, rule in schema.items())


def _word_by_names(word: str, rule: Any) -> bool:
    match word:
        case "allOf" | "anyOf":
            return all(map(_by_names, rule))
        case "properties":
            return all(isinstance(one, bool) for one in rule.values())
        case "dependentSchemas":
            return all(map(_by_names, rule.values()))
        case "not":
            return _by_names(rule)
        case "additionalProperties":
            return isinstance(rule, bool)
    return word in _OF_NAMES
