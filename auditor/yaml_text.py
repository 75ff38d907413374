"""YAML as people write it: settings, panels, accepted findings."""

from __future__ import annotations

import yaml


def read_yaml(text: str) -> object:
    """The value of a YAML document.

    Raises yaml.YAMLError for what is not YAML, for a key that stands twice in one mapping (YAML
    forbids that, and a reader that takes the last one hides the first), for values that cannot be,
    such as a 30th of February, and for what is nested too deeply to be read.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_repeated_keys(root)
        return loader.construct_document(root)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error
    finally:
        loader.dispose()


def _refuse_repeated_keys(root: yaml.Node) -> None:
    """Raise yaml.YAMLError for the first mapping that has a key twice."""
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
                    message = f"the key {key.value!r} stands twice"
                    raise yaml.MarkedYAMLError(problem=message, problem_mark=key.start_mark)
                names.add(name)
        # An alias brings the same node again, and may lie within itself.
        waiting += [part for part in parts if id(part) not in visited]
        visited.update(map(id, parts))
