"""YAML as people write it: settings, panels, accepted findings."""

from __future__ import annotations

import yaml

# A number to the base 60, such as 1:59:59, takes time that grows with the square of its length.
_DIGITS = 400
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(text: str) -> object:
    """The value of a YAML document.

    Raises yaml.YAMLError for what is not YAML, for a key that stands twice in one mapping (YAML
    forbids that, and a reader that takes the last one hides the first), for values that cannot be,
    such as a 30th of February, and for what is made to cost memory or time: nesting that is too
    deep to be read, numbers of hundreds of digits, merges of merges.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_hostile_nodes(root)
        return loader.construct_document(root)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, OverflowError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error
    finally:
        loader.dispose()


def _refuse_hostile_nodes(root: yaml.Node) -> None:
    """Raise yaml.YAMLError for the first mapping that has a key twice, number that is too long, or
    merge of what has merged itself: each level would multiply the keys.
    """
    waiting, visited = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            names = set()
            for key, value in node.value:
                parts += key, value
                name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
                if name in names:
                    raise _refused(f"the key {key.value!r} stands twice", key)
                if key.tag == _MERGE and any(map(_merges, [value, *_items(value)])):
                    raise _refused("a merge of what merges", key)
                names.add(name)
        elif node.tag in _NUMBERS and len(node.value) > _DIGITS:
            raise _refused(f"a number has more than {_DIGITS} digits", node)
        # An alias brings the same node again, and may lie within itself.
        waiting += [part for part in parts if id(part) not in visited]
        visited.update(map(id, parts))


def _items(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _merges(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and any(key.tag == _MERGE for key, _ in node.value)


def _refused(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
