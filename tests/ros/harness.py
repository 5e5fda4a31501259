"""Both ends of a conversation with the node: a process that runs it, and a ROS node of the test's own.

Knows rclpy; the tests say what is promised.
"""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

NAME = "/perception_node"
PATIENCE_S = 60.0
KINDS = {"points": PointCloud2, "camera_info": CameraInfo, "labels_json": String}


def wait_until(holds: Callable[[], Any], what: str, *, timeout_s: float = PATIENCE_S) -> Any:
    """What `holds` returns once it is true; an AssertionError that says what was waited for after the timeout."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        found = holds()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s:.0f} s in vain: {what}")


class NodeProcess:
    """perception_node in a process and session of its own."""

    def __init__(self, environment: Mapping[str, str], *arguments: str, log: Path, command: list[str] | None = None) -> None:
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*(command or [sys.executable, "-m", "edge_mtl_ros.main"]), "--ros-args", *arguments],
                env=dict(environment),
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace")

    def wait_for_text(self, text: str) -> None:
        wait_until(lambda: text in self.text or self.process.poll() is not None, f"{text!r} in the log")
        assert text in self.text, self.text

    def send_signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def end(self, number: int = signal.SIGTERM, *, timeout_s: float = 20.0) -> int:
        """Signal it and wait; the exit code."""
        if self.process.poll() is None:
            self.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"still there {timeout_s:.0f} s after signal {number}:\n{self.text}") from None


@dataclass(frozen=True)
class Camera:
    """The publishers of one camera."""

    images: Any
    compressed: Any
    infos: Any


class Partner:
    """A camera, or several that have names, a listener and a client in one ROS node."""

    def __init__(self, name: str = "partner", *, cameras: tuple[str, ...] = ("",)) -> None:
        self.context = rclpy.Context()
        self.context.init(args=[])
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self.arrived_s: dict[str, list[float]] = defaultdict(list)
        self.diagnostics: list[Any] = []
        qos = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._cameras: dict[str, Camera] = {}
        for camera in cameras:
            topics = {"image": Image, "image/compressed": CompressedImage, "camera_info": CameraInfo}
            named = {f"{camera}/{topic}" if camera else topic: kind for topic, kind in topics.items()}
            self._cameras[camera] = Camera(*(self.node.create_publisher(kind, topic, qos) for topic, kind in named.items()))
        first = self._cameras[cameras[0]]
        self.images, self.compressed, self.cameras = first.images, first.compressed, first.infos
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._subscriptions: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        self.executor.shutdown(timeout_sec=2)
        self.node.destroy_node()
        self.context.try_shutdown()

    def listen(self, *names: str, latched: bool = False, transient: bool = False, kind: type | None = None) -> None:
        """Subscribe to topics of the node, reliably; `kind` is the type of their messages where the name does not say it."""
        durability = QoSDurabilityPolicy.TRANSIENT_LOCAL if latched or transient else QoSDurabilityPolicy.VOLATILE
        for name in names:
            qos = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.RELIABLE, durability=durability)

            def keep(message: Any, name: str = name) -> None:
                self.received[name].append(message)
                self.arrived_s[name].append(time.monotonic())

            self._subscriptions[name] = self.node.create_subscription(
                kind or KINDS.get(name.rpartition("/")[2], Image), f"{NAME}/{name}", keep, qos
            )

    def forget(self) -> None:
        """Drop the subscriptions and what came."""
        for subscription in self._subscriptions.values():
            self.node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self.received.clear()
        self.arrived_s.clear()

    def wait_connected(self) -> None:
        """Wait until the node hears every camera and is heard on everything listened to."""

        def heard(camera: Camera) -> int:
            return int(camera.images.get_subscription_count() + camera.compressed.get_subscription_count())

        for name, camera in self._cameras.items():
            wait_until(partial(heard, camera), f"the node listens to {name or 'the camera'}")
        for name in self._subscriptions:
            wait_until(partial(self.node.count_publishers, f"{NAME}/{name}"), f"a publisher of {name}")
        time.sleep(0.5)

    def send(
        self,
        image: np.ndarray,
        stamp_ns: int,
        *,
        encoding: str = "rgb8",
        frame: str = "camera",
        step: int = 0,
        camera: str | None = None,
    ) -> Image:
        """Publish an (H, W, C) or (H, W) uint8 array as it is, as the first camera or as one of a name."""
        message = image_message(image, stamp_ns, encoding=encoding, frame=frame, step=step)
        (self.images if camera is None else self._cameras[camera].images).publish(message)
        return message

    def publish_compressed(self, message: CompressedImage, *, camera: str) -> None:
        """Publish as one of several cameras."""
        self._cameras[camera].compressed.publish(message)

    def send_camera(self, width: int, height: int, focal: float, *, camera: str = "") -> None:
        """Publish a camera_info until the node has it."""

        def known() -> bool:
            self._cameras[camera].infos.publish(camera_message(width, height, focal))
            time.sleep(0.1)
            return f"of camera_info, fx {focal:.1f} px" in self.values(camera).get("depth_scale", "")

        wait_until(known, "the camera is in use")

    def send_until(self, name: str, image: np.ndarray, *, count: int = 1, **options: Any) -> list[Any]:
        """Publish with rising stamps until `count` answers came on a topic."""
        start = len(self.received[name])
        end_s = time.monotonic() + PATIENCE_S
        while len(self.received[name]) < start + count:
            assert time.monotonic() < end_s, f"no {name} came; diagnostics: {self.values(options.get('camera') or '')}"
            self.send(image, time.time_ns(), **options)
            time.sleep(0.05)
        return self.received[name][start:]

    def values(self, camera: str = "") -> dict[str, str]:
        """The newest diagnostics of the node, or of one of several cameras, as text by key, with "level" and "message"."""
        ending = f": camera {camera}" if camera else ": perception"
        status = wait_until(
            lambda: next((found for found in reversed(self.diagnostics) if found.name.endswith(ending)), None),
            f"diagnostics{ending}",
        )
        return {item.key: item.value for item in status.values} | {
            "level": str(int.from_bytes(status.level, "little")),
            "message": status.message,
        }

    def state(self) -> str:
        """The node's state. Asked again where no answer comes: the first of a node that starts may be lost on its way."""
        for _ in range(3):
            with suppress(AssertionError):
                return self.call(GetState, f"{NAME}/get_state", GetState.Request(), timeout_s=10.0).current_state.label
        return self.call(GetState, f"{NAME}/get_state", GetState.Request()).current_state.label

    def change(self, transition: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, f"{NAME}/change_state", request).success

    def reload(self) -> Any:
        return self.call(Trigger, f"{NAME}/reload", Trigger.Request())

    def set(self, **values: Any) -> Any:
        """The result of setting parameters, all or none."""
        request = SetParametersAtomically.Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParametersAtomically, f"{NAME}/set_parameters_atomically", request).result

    def get(self, name: str) -> Any:
        answer = self.call(GetParameters, f"{NAME}/get_parameters", GetParameters.Request(names=[name])).values[0]
        return Parameter.from_parameter_msg(_named(name, answer)).value

    def call(self, kind: Any, name: str, request: Any, *, timeout_s: float = PATIENCE_S) -> Any:
        """The answer of a service."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout_s), f"no service {name}"
        future = client.call_async(request)
        wait_until(future.done, f"an answer of {name}", timeout_s=timeout_s)
        return future.result()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += message.status

    def _spin(self) -> None:
        while not self._over.is_set():
            self.executor.spin_once(timeout_sec=0.1)


def _named(name: str, value: Any) -> Any:
    from rcl_interfaces.msg import Parameter as Message

    return Message(name=name, value=value)


def image_message(image: np.ndarray, stamp_ns: int, *, encoding: str, frame: str = "camera", step: int = 0) -> Image:
    """A message of an array's bytes, its rows padded with 0xAA up to `step`."""
    rows = np.ascontiguousarray(image).reshape(image.shape[0], int(np.prod(image.shape[1:]))).view(np.uint8)
    if step:
        padded = np.full((rows.shape[0], step), 0xAA, np.uint8)
        padded[:, : rows.shape[1]] = rows
        rows = padded
    message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding, step=rows.shape[1])
    if encoding.startswith("nv"):
        message.height = image.shape[0] * 2 // 3
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    message.header.frame_id = frame
    message.data = array.array("B", rows.tobytes())
    return message


def camera_message(width: int, height: int, focal: float) -> CameraInfo:
    """A pinhole camera with its principal point in the middle."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def stamp_ns(message: Any) -> int:
    """The header's stamp in nanoseconds."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def array_of(message: Image) -> np.ndarray:
    """The pixels of one of the node's outputs."""
    kinds = {"mono8": (np.uint8, 1), "rgb8": (np.uint8, 3), "32FC1": (np.float32, 1), "32FC3": (np.float32, 3)}
    dtype, channels = kinds[message.encoding]
    values = np.frombuffer(message.data, dtype).reshape(message.height, message.width, channels)
    return values[..., 0] if channels == 1 else values


@contextmanager
def active_partner(*, cameras: tuple[str, ...] = ("",)) -> Iterator[Partner]:
    """A partner of a node, once that is active; closed after the block."""
    partner = Partner(cameras=cameras)
    try:
        wait_until(lambda: partner.state() == "active", "the node is active")
        yield partner
    finally:
        partner.close()


@contextmanager
def running(
    environment: Mapping[str, str], log: Path, *arguments: str, command: list[str] | None = None
) -> Iterator[NodeProcess]:
    """A node process that is gone after the block."""
    node = NodeProcess(environment, *arguments, log=log, command=command)
    try:
        yield node
    finally:
        node.end()
