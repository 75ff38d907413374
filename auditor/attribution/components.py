"""The parts of a network that attribution works on, and hooks on them.

Shapes: B rows, L layers, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from auditor.errors import ModelError
from auditor.model.language_model import LanguageModel

COMPONENTS = ("attention", "mlp")
_NAMES = ("self_attn", "mlp")

Recorded = list[list[torch.Tensor]]  # [L][component], each [B, T, D]


def layers_of(lm: LanguageModel) -> Sequence[torch.nn.Module]:
    """The model's layers, each with the modules `self_attn` and `mlp`, as in Llama, Mistral, Qwen,
    Gemma and Phi.

    Raises: ModelError for a model of another architecture.
    """
    found = list(getattr(lm.body, "layers", ()))
    if not found or not all(hasattr(layer, name) for layer in found for name in _NAMES):
        message = f"The layers of {lm.name} have no self_attn and mlp, which attribution works on."
        raise ModelError(message, "Choose a --reference of a llama-like architecture.")
    return found


def components_of(lm: LanguageModel) -> list[tuple[torch.nn.Module, ...]]:
    """[L] of each layer its attention and its MLP, in the order of COMPONENTS."""
    return [tuple(getattr(layer, name) for name in _NAMES) for layer in layers_of(lm)]


@contextmanager
def recorded_outputs(lm: LanguageModel) -> Iterator[Recorded]:
    """What every component gives in the pass that is run within."""
    outputs: Recorded = [[] for _ in layers_of(lm)]

    def recorder(into: list[torch.Tensor]) -> Callable[..., None]:
        return lambda module, args, output: into.append(_hidden(output))

    modules = [
        (module, recorder(into))
        for into, pair in zip(outputs, components_of(lm), strict=True)
        for module in pair
    ]
    with _hooks(module.register_forward_hook(hook) for module, hook in modules):
        yield outputs


@contextmanager
def gated_outputs(lm: LanguageModel, recorded: Recorded, gates_BLC: torch.Tensor) -> Iterator[None]:
    """Every component gives `recorded + gate (own - recorded)`: at gate 0 what was recorded, at 1
    its own output.
    """

    def gate(layer: int, number: int) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> Any:
            before = recorded[layer][number]
            mixed = before + gates_BLC[:, layer, number, None, None] * (_hidden(output) - before)
            return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

        return hook

    pairs = enumerate(components_of(lm))
    modules = [
        (module, gate(layer, number)) for layer, pair in pairs for number, module in enumerate(pair)
    ]
    with _hooks(module.register_forward_hook(hook) for module, hook in modules):
        yield


@contextmanager
def recorded_stream(lm: LanguageModel) -> Iterator[list[torch.Tensor]]:
    """[L] the residual stream [B, T, D] before each layer in the pass that is run within."""
    stream: list[torch.Tensor] = []

    def hook(module: torch.nn.Module, args: Any, given: dict[str, Any]) -> None:
        stream.append(args[0] if args else given["hidden_states"])

    with _hooks(layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers_of(lm)):
        yield stream


@contextmanager
def patched_stream(lm: LanguageModel, layer: int, stream: torch.Tensor) -> Iterator[None]:
    """The residual stream before `layer` is `stream` [B, T, D], whatever came before."""

    def hook(module: torch.nn.Module, args: Any, given: dict[str, Any]) -> Any:
        return ((stream, *args[1:]), given) if args else (args, {**given, "hidden_states": stream})

    with _hooks([layers_of(lm)[layer].register_forward_pre_hook(hook, with_kwargs=True)]):
        yield


@contextmanager
def _hooks(handles: Iterable[Any]) -> Iterator[None]:
    """Keep hooks for as long as the context lasts."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def _hidden(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found
