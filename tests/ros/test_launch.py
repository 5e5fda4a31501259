"""What the launch file hands to the node. The packages `launch` and `launch_ros` are on no package index: stand-ins keep what
they are given, so this says nothing about whether the real ones accept it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.ros.conftest import PACKAGE


class Value:
    """LaunchConfiguration."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: Mapping[str, str]) -> str:
        return context[self.name]


Launched = Callable[..., SimpleNamespace]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launched:
    """The node that the file makes of the arguments given."""

    def kept(*_: Any, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(**options)

    def module(name: str, **contents: Any) -> None:
        made = ModuleType(name)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    module("ament_index_python")
    module("ament_index_python.packages", get_package_share_directory=lambda _: str(PACKAGE))
    module("launch", LaunchContext=dict, LaunchDescription=list)
    module(
        "launch.actions",
        DeclareLaunchArgument=lambda name, default_value, description: (name, default_value),
        OpaqueFunction=lambda function: function,
    )
    module("launch.substitutions", LaunchConfiguration=Value)
    module("launch_ros")
    module("launch_ros.actions", LifecycleNode=kept)
    module("launch_ros.parameter_descriptions", ParameterValue=lambda value, value_type: (value.name, value_type))
    spec = importlib.util.spec_from_file_location("perception_launch", PACKAGE / "launch" / "perception.launch.py")
    assert spec is not None
    assert spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)

    def launch(**given: str) -> SimpleNamespace:
        *declared, node = file.generate_launch_description()
        context = dict(declared)
        assert set(given) <= set(context)
        (made,) = node(context | given)
        return made

    return launch


def test_what_is_not_given_is_what_the_file_of_parameters_says(launched: Launched) -> None:
    (file,) = launched().parameters
    assert file.name == "params_file"


def test_what_is_given_goes_over_the_file_of_parameters(launched: Launched) -> None:
    file, over = launched(bundle="/bundles/mine", autostart="false").parameters
    assert file.name == "params_file"
    assert over == {"bundle": ("bundle", str), "autostart": ("autostart", bool)}
