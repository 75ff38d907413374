"""The options of the mitigations on the command line, made from what each declares of itself
(`mitigations.interface`): one that switches it on, and one for each of its settings.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar, get_args, get_origin

from typer import CallbackParam, Context, Option

from auditor.cli.parsing import parse_share
from auditor.errors import AuditError
from mitigations import MITIGATIONS, step
from mitigations.interface import SHARE, Mitigation, Setting, settings_of

ORDER = "mitigations in the order given"

T = TypeVar("T")


def note_order(context: Context, param: CallbackParam, value: T) -> T:
    """Option callback that notes a mitigation; callbacks are called in the order of the command
    line.
    """
    # 0.0 == False, and a share of 0 is given all the same.
    if value is not None and value is not False:
        names = value if isinstance(value, list) else [param.name]
        context.meta.setdefault(ORDER, []).extend(names)
    return value


def with_mitigation_options(command: Callable[..., int]) -> Callable[..., int]:
    """`command` with the options of every mitigation of ours in place of its `**options`.

    Those that switch mitigations on come right behind its first two parameters, their settings
    behind the third.
    """
    switches: list[inspect.Parameter] = []
    # By option: two mitigations may share one, as --mask-budget.
    details: dict[str, inspect.Parameter] = {}
    for mitigation in MITIGATIONS.values():
        settings = list(settings_of(mitigation))
        details |= {
            setting.option: _parameter(setting) for setting in settings if not setting.switches_on
        }
        values = [setting for setting in settings if setting.switches_on]
        if values:
            switches.append(_parameter(values[0], callback=note_order))
        else:
            option = Option(f"--{mitigation.name}", callback=note_order, help=mitigation.help)
            switches.append(_keyword(mitigation.name, False, Annotated[bool, option]))
    first, second, third, *later = (
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    )
    parameters = [first, second, *switches, third, *details.values(), *later]
    # Typer, and the options -v and -q, read a command from its signature.
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010
    return command


def _parameter(
    setting: Setting, callback: Callable[..., object] | None = None
) -> inspect.Parameter:
    """The option of one setting; lists may be repeated, and are None where they are not given."""
    kind, default = setting.kind, setting.default
    if get_origin(kind) is tuple:
        kind, default = list[get_args(kind)[0]] | None, None  # type: ignore[misc]
    elif default is dataclasses.MISSING:
        kind, default = kind | None, None
    option = Option(
        setting.option,
        metavar=setting.metavar,
        parser=parse_share if setting.metavar == SHARE else None,
        min=setting.minimum,
        help=setting.help,
        callback=callback,
    )
    return _keyword(_name(setting), default, Annotated[kind, option])


def _name(setting: Setting) -> str:
    return setting.option.removeprefix("--").replace("-", "_")


def _keyword(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
    )


def selected(names: Sequence[str], options: Mapping[str, object]) -> list[Mitigation]:
    """The mitigations in the order of `names`, with the settings that the `options` give them.

    Raises: AuditError for a value that is not allowed; PluginError for a name that nobody offers.
    """
    steps = []
    for name in names:
        # By the group that a setting stands in, such as `endpoint`; () is the mitigation itself.
        groups: dict[tuple[str, ...], dict[str, object]] = {(): {}}
        for setting in settings_of(MITIGATIONS[name]) if name in MITIGATIONS else ():
            *group, key = setting.path
            value = options[_name(setting)]
            groups.setdefault(tuple(group), {})[key] = setting.default if value is None else value
        values = groups.pop(())
        steps.append(step(name, **values, **{path[0]: group for path, group in groups.items()}))
    return steps


def check_third_party(names: Sequence[str]) -> None:
    """Raise AuditError for a name that is not another package's."""
    for name in names:
        if name in MITIGATIONS:
            raise AuditError(f"{name!r} is one of our own mitigations.", f"Write --{name}.")
