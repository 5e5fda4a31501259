"""The part of Triton's model configuration that we write, as a protobuf message: what a server's own parser takes.

Source: model_config.proto of triton-inference-server/common; names and types of fields as there. Numbers of fields do not
matter to the text format.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_KINDS = descriptor_pb2.FieldDescriptorProto
_FIELDS = {
    "Tensor": {"name": "string", "data_type": "DataType", "dims": "int64*"},
    "InstanceGroup": {"count": "int32", "kind": "InstanceKind"},
    "DynamicBatching": {"max_queue_delay_microseconds": "uint64"},
    "Parameter": {"string_value": "string"},
    "ModelConfig": {
        "name": "string",
        "backend": "string",
        "max_batch_size": "int32",
        "input": "Tensor*",
        "output": "Tensor*",
        "instance_group": "InstanceGroup*",
        "dynamic_batching": "DynamicBatching",
    },
}
_ENUMS = {
    "DataType": [
        *("TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8", "TYPE_INT16"),
        *("TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16"),
    ],
    "InstanceKind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
}


def parse_config(text: str) -> Any:
    """A ModelConfig. Raises google.protobuf.text_format.ParseError for what a server would refuse."""
    return text_format.Parse(text, _message()())


def _message() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="inference", syntax="proto3")
    for name, values in _ENUMS.items():
        kind = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            kind.value.add(name=value, number=number)
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            _add(message, field, kind, number)
    config = file.message_type[-1]
    entry = config.nested_type.add(name="ParametersEntry")
    entry.options.map_entry = True
    _add(entry, "key", "string", 1)
    _add(entry, "value", "Parameter", 2)
    _add(config, "parameters", "ModelConfig.ParametersEntry*", len(_FIELDS["ModelConfig"]) + 1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def _add(message: Any, field: str, kind: str, number: int) -> None:
    name = kind.removesuffix("*")
    label = _KINDS.LABEL_REPEATED if kind.endswith("*") else _KINDS.LABEL_OPTIONAL
    made = message.field.add(name=field, number=number, label=label)
    if name in ("string", "int32", "int64", "uint64"):
        made.type = getattr(_KINDS, f"TYPE_{name.upper()}")
    else:
        made.type = _KINDS.TYPE_ENUM if name in _ENUMS else _KINDS.TYPE_MESSAGE
        made.type_name = f".inference.{name}"
