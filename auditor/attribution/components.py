"""The parts of a network that attribution works on, and hooks on them.

Shapes: B rows, L layers, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from auditor.errors import ModelError
from auditor.model.language_model import LanguageModel

COMPONENTS = ("attention", "mlp")
_NAMES = ("self_attn", "mlp")  # of the modules of a layer, in the order of COMPONENTS

# What a module takes by position and by name, and what it gives.
Inputs = tuple[torch.Tensor, ...]
Named = dict[str, torch.Tensor]
Output = torch.Tensor | tuple[torch.Tensor, ...]
Recorded = list[list[torch.Tensor]]  # [L][component], each [B, T, D]


def layers_of(lm: LanguageModel) -> Sequence[torch.nn.Module]:
    """The model's layers, each with the modules `self_attn` and `mlp`, as in Llama, Mistral, Qwen,
    Gemma and Phi.

    Raises: ModelError for a model of another architecture.
    """
    layers = list(getattr(lm.body, "layers", ()))
    if not layers or not all(hasattr(layer, name) for layer in layers for name in _NAMES):
        message = f"The layers of {lm.name} have no self_attn and mlp, which attribution works on."
        raise ModelError(message, "Choose a --reference of a llama-like architecture.")
    return layers


def components_of(lm: LanguageModel) -> list[tuple[torch.nn.Module, ...]]:
    """[L] of each layer its attention and its MLP, in the order of COMPONENTS."""
    return [tuple(getattr(layer, name) for name in _NAMES) for layer in layers_of(lm)]


@contextmanager
def recorded_outputs(lm: LanguageModel) -> Iterator[Recorded]:
    """What every component gives in the pass that is run within."""
    outputs: Recorded = [[] for _ in layers_of(lm)]

    # A hook of its own for each layer: the list that it fills is bound when it is made.
    def recorder(into: list[torch.Tensor]) -> Callable[..., None]:
        return lambda module, args, output: into.append(_hidden(output))

    with ExitStack() as stack:
        for into, components in zip(outputs, components_of(lm), strict=True):
            for module in components:
                stack.callback(module.register_forward_hook(recorder(into)).remove)
        yield outputs


@contextmanager
def gated_outputs(lm: LanguageModel, recorded: Recorded, gates_BLC: torch.Tensor) -> Iterator[None]:
    """Every component gives `recorded + gate (output - recorded)`: at gate 0 what was recorded, at
    1 what it computes.
    """

    def gate(layer: int, component: int) -> Callable[..., Output]:
        def hook(module: torch.nn.Module, args: Inputs, output: Output) -> Output:
            before = recorded[layer][component]
            gate_B11 = gates_BLC[:, layer, component, None, None]
            mixed = before + gate_B11 * (_hidden(output) - before)
            # An attention gives a tuple: its weights, or a cache, come after the hidden states.
            return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

        return hook

    with ExitStack() as stack:
        for layer, components in enumerate(components_of(lm)):
            for component, module in enumerate(components):
                stack.callback(module.register_forward_hook(gate(layer, component)).remove)
        yield


@contextmanager
def recorded_stream(lm: LanguageModel) -> Iterator[list[torch.Tensor]]:
    """[L] the residual stream [B, T, D] before each layer in the pass that is run within."""
    stream: list[torch.Tensor] = []

    # Some releases of transformers pass the hidden states by position, some by name.
    def hook(module: torch.nn.Module, args: Inputs, kwargs: Named) -> None:
        stream.append(args[0] if args else kwargs["hidden_states"])

    with ExitStack() as stack:
        for layer in layers_of(lm):
            stack.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield stream


@contextmanager
def patched_stream(lm: LanguageModel, layer: int, stream: torch.Tensor) -> Iterator[None]:
    """The residual stream before `layer` is `stream` [B, T, D], whatever came before."""

    def hook(module: torch.nn.Module, args: Inputs, kwargs: Named) -> tuple[Inputs, Named]:
        if args:
            return (stream, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": stream}

    # Removed even when the pass fails: a patched layer would falsify all that is run after it.
    handle = layers_of(lm)[layer].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _hidden(output: Output) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output
