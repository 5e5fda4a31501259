"""vision_msgs and tf2_msgs, which have no wheels: the messages that the node sends, made by the generators that rclpy's wheels
bring.

    python -m tests.ros.vision_messages FOLDER [PACKAGE]

Their fields are those of ros-perception/vision_msgs 4 and ros2/geometry2. FOLDER then holds a package to be put on the path.
Needs gcc and g++.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

from edge_mtl.ros.vision import VISION_DEFINITIONS

VISION, TF = "vision_msgs", "tf2_msgs"
FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    VISION: {
        "VisionClass": ("uint16 class_id", "string class_name"),
        "LabelInfo": ("std_msgs/Header header", "vision_msgs/VisionClass[] class_map", "float32 threshold"),
        "VisionInfo": ("std_msgs/Header header", "string method", "string database_location", "int32 database_version"),
        **VISION_DEFINITIONS,
    },
    TF: {"TFMessage": ("geometry_msgs/TransformStamped[] transforms",)},
}
NEEDED = ("std_msgs", "builtin_interfaces", "geometry_msgs")
"""The packages whose messages are in these."""
PREFIX = Path(sys.prefix)
DISPATCH, FAST, INTROSPECTION = (f"rosidl_typesupport_{name}" for name in ("c", "fastrtps_c", "introspection_c"))
"""What Python asks for a message's support, and the two that it hands on to: to serialise, and to describe a type."""
PARTS = ("rosidl_generator_py", "rosidl_generator_c", DISPATCH, FAST, INTROSPECTION)
LIBRARIES = (
    *(
        f"{package}__{part}"
        for package in ("std_msgs", "geometry_msgs")
        for part in ("rosidl_generator_py", "rosidl_generator_c", DISPATCH, FAST, INTROSPECTION)
    ),
    *("builtin_interfaces__rosidl_generator_c", "rosidl_runtime_c", DISPATCH, FAST),
    *("rosidl_typesupport_fastrtps_cpp", INTROSPECTION, "fastcdr", "rmw", "rcutils"),
)


def write_sources(folder: Path, name: str) -> Path:
    """The package with its generated C, C++ and Python; where that is."""
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    source, package = folder / "source", folder / name
    (source / "msg").mkdir(parents=True)
    package.mkdir()
    for message, fields in FIELDS[name].items():
        file = Path("msg", f"{message}.msg")
        (source / file).write_text("\n".join((*fields, "")))
        convert_msg_to_idl(source, name, file, source / "msg")
    given = (name, [f"{source}:msg/{message}.idl" for message in FIELDS[name]])
    given += ([str(PREFIX / "share" / needed) for needed in NEEDED],)
    what = (*given, package)
    hashes = HashTypeDescription("hash").generate_type_hashes(*what)
    GenerateC("c").generate(*what, type_description_files=hashes)
    GeneratePython("py", typesupport_implementations=[DISPATCH]).generate(*what)
    GenerateCTypesupport("dispatch", typesupport_implementations=[FAST, INTROSPECTION]).generate(*what)
    GenerateFastRTPSCTypesupport("fast").generate(*what)
    GenerateIntrospectionCTypesupport("introspection").generate(*given, folder / INTROSPECTION / name)  # names as those of "c"
    (package / "__init__.py").touch()
    return package


def compile_sources(folder: Path, package: Path) -> None:
    """One library with all of it, which Python's extension module has loaded before the dispatch looks for its two by name."""
    headers = (folder, folder / INTROSPECTION, PREFIX / "include", *(PREFIX / "include").iterdir())
    headers += (Path(sysconfig.get_path("include")), Path(np.get_include()))
    flags = ("-c", "-O0", "-fPIC", "-w", *(f"-I{path}" for path in headers))
    every = folder / "every.cpp"
    every.write_text("".join(f'#include "{path}"\n' for path in package.rglob("*.cpp")))
    extension = next(package.glob("*.ep.*.c"))
    objects = [
        *_compiled(folder / "objects", "gcc", *flags, *map(str, sorted(set(package.rglob("*.c")) - {extension}))),
        *_compiled(folder / "described", "gcc", *flags, *map(str, (folder / INTROSPECTION).rglob("*.c"))),
        *_compiled(folder / "fast", "g++", "-std=c++17", *flags, str(every)),
    ]
    libraries = (f"-L{PREFIX / 'lib'}", f"-Wl,-rpath,{PREFIX / 'lib'}", *(f"-l{library}" for library in LIBRARIES))
    fast, described = (package / f"lib{package.name}__{name}.so" for name in (FAST, INTROSPECTION))
    shared = ("g++", "-shared", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN")
    subprocess.run([*shared, f"-Wl,-soname,{fast.name}", "-o", str(fast), *objects, *libraries], check=True)
    subprocess.run([*shared, f"-Wl,-soname,{described.name}", "-o", str(described), str(fast)], check=True)
    module = package / f"{package.name}_s__{DISPATCH}{sysconfig.get_config_var('EXT_SUFFIX')}"
    (started,) = _compiled(folder / "module", "gcc", *flags, str(extension))
    subprocess.run([*shared, "-o", str(module), started, str(fast), str(described), *libraries], check=True)


def _compiled(folder: Path, *command: str) -> list[str]:
    """The objects that a compiler writes into a folder of its own."""
    folder.mkdir()
    subprocess.run(command, cwd=folder, check=True)
    return [str(path) for path in folder.iterdir()]


if __name__ == "__main__":
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)  # where the generators look for their templates
    compile_sources(Path(sys.argv[1]), write_sources(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else VISION))
