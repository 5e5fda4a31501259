"""What an Engine promises, on every backend that is here and for both placements of pre- and post-processing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_mtl.backends import available, open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import EdgeMtlError, EngineClosed, FrameError
from edge_mtl.evaluation.metrics import agreement
from edge_mtl.image.frames import Intrinsics, letterbox
from edge_mtl.image.geometry import normals_of_depth
from edge_mtl.tasks import NYU_TASKS, TASK_NAMES, VOID
from edge_mtl.tasks.normals import angles_deg
from edge_mtl.tasks.stability import TemporalFilter
from tests.bundles import full_maps, host_model, make_bundle, make_image, paint, reference, transparent_model

HERE = [name for name, found in available().items() if found.usable]
VARIANTS = [(backend, placement) for backend in HERE for placement in ("host", "graph")]
CANONICAL = Intrinsics(88.25, 88.25, 47.5, 31.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contract")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> dict[str, Bundle]:
    return {placement: make_bundle(folder / placement, placement=placement) for placement in ("host", "graph")}


@pytest.fixture(scope="module")
def transparent(folder: Path) -> dict[str, Bundle]:
    graphs = {"plain": transparent_model(placement="graph"), "deploy": transparent_model()}
    return {
        placement: make_bundle(folder / f"transparent-{placement}", placement=placement, golden=1, **graphs)
        for placement in ("host", "graph")
    }


@pytest.fixture(scope="module", params=VARIANTS, ids="-".join)
def variant(request) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="module")
def engine(variant, tiny):
    backend, placement = variant
    with Engine(tiny[placement], backend=backend, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module", params=[1, 3], ids=["one at a time", "three at once"])
def streaming(request, variant, tiny):
    backend, placement = variant
    with Engine(tiny[placement], backend=backend, threads=1, parallel_frames=request.param, self_test="off") as opened:
        yield opened


def open_engine(bundles, variant, **options) -> Engine:
    return Engine(bundles[variant[1]], backend=variant[0], threads=1, **options)


def test_the_engine_says_what_it_runs(engine, variant):
    info = engine.info
    assert (info.backend, info.placement, info.precision) == (*variant, "fp32")
    assert (info.tasks, info.input_size, info.threads) == (TASK_NAMES, (64, 96), 1)
    assert "fp32 on" in info.reason
    assert info.self_test is not None
    assert info.load_s > 0
    assert variant[0] in repr(engine)


def test_maps_are_those_of_the_definition(engine):
    """Every backend and placement is compared with one reference, so they all agree with each other."""
    frame = make_image(11)
    expected = full_maps(reference(host_model(), frame))
    prediction = engine.predict(frame)
    assert (prediction.segmentation == expected["segmentation"]).mean() > 0.999
    assert np.abs(prediction.depth - expected["depth"]).max() < 1e-3
    assert angles_deg(prediction.normals, expected["normals"]).max() < 0.1
    if engine.info.placement == "host":
        assert np.abs(prediction.confidence - expected["confidence"]).max() < 1e-3
    else:
        assert prediction.confidence is None


@pytest.mark.parametrize("size", [(64, 96), (54, 96), (120, 213), (90, 60), (33, 47), (8, 8), (1, 1)])
@pytest.mark.parametrize("output_size", ["frame", "network"])
def test_shapes_types_and_what_is_unknown(variant, tiny, size, output_size):
    with open_engine(tiny, variant, output_size=output_size, self_test="off") as engine:
        prediction = engine.predict(make_image(1, height=size[0], width=size[1]))
    shape = size if output_size == "frame" else (64, 96)
    assert prediction.map_size == shape
    assert prediction.frame_size == size
    assert (prediction.segmentation.shape, prediction.segmentation.dtype) == (shape, np.uint8)
    assert (prediction.depth.shape, prediction.depth.dtype) == (shape, np.float32)
    assert (prediction.normals.shape, prediction.normals.dtype) == ((*shape, 3), np.float32)
    box = letterbox(size, (64, 96))
    inside = np.ones(shape, bool)
    if output_size == "network":
        inside[:] = False
        inside[box.rows, box.columns] = True
    assert np.array_equal(np.isfinite(prediction.depth), inside)
    assert np.array_equal(np.isfinite(prediction.normals).all(axis=2), inside)
    assert np.array_equal(prediction.segmentation != VOID, inside)
    assert (prediction.segmentation[inside] < 13).all()
    assert (prediction.depth[inside] > 0).all()
    assert np.abs(np.linalg.norm(prediction.normals[inside], axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("size", [(64, 96), (120, 213), (90, 60), (1, 1)])
def test_content_is_what_the_network_answers_without_its_bars(variant, tiny, size):
    frame, focal = make_image(2, height=size[0], width=size[1]), min(70.0, 15.0 * max(size))  # longer is no camera
    camera = (focal, focal + 1.0, (size[1] - 1) / 2, (size[0] - 1) / 2)
    box = letterbox(size, (64, 96))
    with open_engine(tiny, variant, output_size="network", self_test="off") as engine:
        whole = engine.predict(frame, intrinsics=camera)
    with open_engine(tiny, variant, output_size="content", self_test="off") as engine:
        content = engine.predict(frame, intrinsics=camera)
    assert content.map_size == box.content
    for name in ("segmentation", "depth", "normals", "confidence"):
        expected = getattr(whole, name)
        found = getattr(content, name)
        assert (expected is None and found is None) or np.array_equal(found, expected[box.rows, box.columns])
    fx, fy, cx, cy = whole.intrinsics.as_tuple()
    assert content.intrinsics.as_tuple() == (fx, fy, cx - box.left, cy - box.top)


def test_times_add_up(engine):
    timing = engine.predict(make_image(1)).timing
    stages = timing.prepare + timing.copy_in + timing.infer + timing.copy_out + timing.postprocess
    assert min(timing.prepare, timing.infer, timing.postprocess) > 0
    assert stages <= timing.total


def test_bgr_is_rgb_turned_round(engine):
    frame = make_image(4)
    assert_same(engine.predict(frame), engine.predict(frame[:, :, ::-1], channels="bgr"))


@pytest.mark.parametrize("view", ["strided", "flipped", "read-only", "fortran"])
def test_any_memory_layout_works(engine, view):
    base = make_image(4, height=130, width=200)
    frame = {
        "strided": base[::2, ::2],
        "flipped": base[::-1, ::-1],
        "read-only": base.copy(),
        "fortran": np.asfortranarray(base),
    }[view]
    if view == "read-only":
        frame.setflags(write=False)
    assert_same(engine.predict(frame), engine.predict(np.ascontiguousarray(frame)))


def test_a_bad_frame_is_refused_and_the_next_one_works(engine):
    good = make_image(5)
    expected = engine.predict(good)
    for bad in (good.astype(np.float32), good[..., 0], np.zeros((0, 4, 3), np.uint8), None):
        with pytest.raises(FrameError):
            engine.predict(bad)
    with pytest.raises(FrameError, match="rgb"):
        engine.predict(good, channels="hsv")
    with pytest.raises(FrameError, match="focal"):
        engine.predict(good, intrinsics=(0, 1, 2, 3))
    assert_same(engine.predict(good), expected)


def test_maps_are_the_callers_own(engine):
    first = engine.predict(make_image(6))
    kept = (first.segmentation.copy(), first.depth.copy(), first.normals.copy())
    for seed in range(5):
        engine.predict(make_image(seed))
    assert all(np.array_equal(a, b) for a, b in zip((first.segmentation, first.depth, first.normals), kept, strict=True))
    first.depth[:] = 0
    assert engine.predict(make_image(6)).depth.min() > 0


@pytest.mark.parametrize("tasks", [("segmentation",), ("depth",), ("normals",), ("segmentation", "normals")])
def test_a_missing_task_is_none_never_zeros(variant, folder, tasks):
    bundle = make_bundle(folder / f"{'-'.join((*variant, *tasks))}", tasks=tasks, placement=variant[1], golden=1)
    with Engine(bundle, backend=variant[0], threads=1) as engine:
        prediction = engine.predict(make_image(1))
        assert engine.info.tasks == tasks
    for task in TASK_NAMES:
        assert (getattr(prediction, task) is not None) == (task in tasks)
    assert prediction.consistency is None


CAMERAS = {
    "network": ((64, 96), (88.25, 88.25, 47.5, 31.5)),
    "wide": ((64, 96), (60.0, 60.0, 47.5, 31.5)),
    "4:3 shifted": ((240, 320), (350.0, 350.0, 145.0, 130.0)),
    "16:9": ((360, 640), (450.0, 450.0, 319.5, 179.5)),
    "anamorphic": ((300, 400), (400.0, 300.0, 199.5, 149.5)),
}


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.25, -0.3, -1.0)])
@pytest.mark.parametrize("camera", CAMERAS, ids=str)
@pytest.mark.parametrize("output_size", ["frame", "network"])
def test_a_plane_seen_through_another_camera_comes_back(variant, transparent, camera, normal, output_size):
    """The image shows the canonical reading of the plane; the engine must return the plane itself."""
    size, numbers = CAMERAS[camera]
    frame_camera = Intrinsics(*numbers)
    normal = np.array(normal) / np.linalg.norm(normal)
    true_depth = plane_depth(size, frame_camera, normal)
    network_camera = letterbox(size, (64, 96)).to_network(frame_camera)
    canonical_depth = true_depth * CANONICAL.fx / network_camera.fx
    frame = paint(canonical_depth, canonical_normals(size, normal, network_camera))

    with open_engine(transparent, variant, output_size=output_size, self_test="off") as engine:
        prediction = engine.predict(frame, intrinsics=numbers)
        assumed = engine.predict(frame)
    expected = frame_camera if output_size == "frame" else network_camera
    assert not prediction.intrinsics_assumed
    assert list(prediction.intrinsics) == pytest.approx(list(expected))
    depth = true_depth if output_size == "frame" else plane_depth((64, 96), network_camera, normal)
    error = np.abs(prediction.depth / depth - 1)
    most = 0.98 if variant[1] == "host" else 0.88  # in the graph, bars bleed into the two pixels beside them
    assert np.nanquantile(error, most) < 0.03
    angles = angles_deg(prediction.normals, np.broadcast_to(normal, prediction.normals.shape))
    assert np.nanmedian(angles) < 1.0
    assert np.nanquantile(angles, most) < 2.5

    assert assumed.intrinsics_assumed
    ratio = np.nanmedian(prediction.depth / assumed.depth)
    assert ratio == pytest.approx(network_camera.fx / CANONICAL.fx, rel=1e-3)


def test_depth_and_normals_agree_whatever_the_camera(variant, transparent):
    """Consistency is measured with `Prediction.intrinsics`, so it checks the camera of the maps, too."""
    size, numbers = CAMERAS["16:9"]
    normal = np.array([0.25, -0.3, -1.0]) / np.linalg.norm([0.25, -0.3, -1.0])
    camera = Intrinsics(*numbers)
    network_camera = letterbox(size, (64, 96)).to_network(camera)
    depth = plane_depth(size, camera, normal) * CANONICAL.fx / network_camera.fx
    frame = paint(depth, canonical_normals(size, normal, network_camera))
    with open_engine(transparent, variant, self_test="off") as engine:
        prediction = engine.predict(frame, intrinsics=numbers)
        assumed = engine.predict(frame)
    smooth = normals_of_depth(prediction.depth[::20, ::20], Intrinsics(22.5, 22.5, 319.5 / 20, 179.5 / 20))
    assert np.nanmedian(angles_deg(smooth, np.broadcast_to(normal, smooth.shape))) < 2.0
    assert list(assumed.intrinsics) == pytest.approx(list(letterbox(size, (64, 96)).to_frame(CANONICAL)))


def test_a_stream_gives_what_predict_gives(streaming, engine):
    frames = [make_image(seed, height=54 + seed, width=96) for seed in range(7)]
    expected = [engine.predict(frame) for frame in frames]
    for found, wanted in zip(streaming.stream(iter(frames)), expected, strict=True):
        assert_same(found, wanted)
    assert list(streaming.stream([])) == []


@pytest.mark.parametrize("size", [(64, 96), (54, 96), (128, 192)], ids="{0[0]}x{0[1]}".format)
def test_a_stream_is_done_with_a_frame_before_it_asks_for_the_next(streaming, engine, size):
    """A camera's driver writes every frame into one array."""
    frames = [make_image(seed, height=size[0], width=size[1]) for seed in range(5)]
    array = np.empty((*size, 3), np.uint8)

    def overwritten():
        for frame in frames:
            array[:] = frame
            yield array

    plain = engine.stream(frames, stability=TemporalFilter(votes=2))
    reused = streaming.stream(overwritten(), stability=TemporalFilter(votes=2))
    for found, wanted in zip(reused, plain, strict=True):
        assert_same(found, wanted)


def test_a_stream_reads_as_many_frames_ahead_as_run_at_once(streaming):
    read = []

    def frames():
        for seed in range(6):
            read.append(seed)
            yield make_image(seed)

    for number, _ in enumerate(streaming.stream(frames())):
        assert len(read) <= number + 1 + streaming.info.parallel_frames


def test_an_error_in_a_stream_comes_after_the_predictions_before_it(streaming):
    def frames():
        yield make_image(0)
        yield make_image(1)
        raise OSError("the camera is gone")

    done = []
    with pytest.raises(OSError, match="camera"):
        done.extend(streaming.stream(frames()))
    stream, done = streaming.stream([make_image(0), make_image(1)[..., 0], make_image(2)]), []
    with pytest.raises(FrameError):
        for prediction in stream:
            done.append(prediction)
    assert len(done) == 1
    assert_same(done[0], streaming.predict(make_image(0)))
    with pytest.raises(FrameError):
        list(streaming.stream([None]))


def test_a_stream_that_is_left_early_leaves_nothing_behind(streaming):
    before = threading.active_count()
    for _ in range(3):
        stream = streaming.stream(make_image(seed) for seed in range(100))
        next(stream)
        stream.close()
    assert threading.active_count() == before
    assert streaming.predict(make_image(0)).depth is not None


@pytest.mark.parametrize("parallel", [1, 3])
def test_closing_during_a_stream_ends_it(variant, tiny, parallel):
    engine = open_engine(tiny, variant, self_test="off", parallel_frames=parallel)
    with pytest.raises(EngineClosed):
        for number, _ in enumerate(engine.stream(make_image(seed) for seed in range(50))):
            if number == 2:
                engine.close()
            assert number < 4


def test_frames_at_once_are_with_the_runtime_at_once(streaming, monkeypatch):
    at_once = threading.Barrier(streaming.info.parallel_frames)
    run = streaming._backend.run

    def together(feeds):
        at_once.wait(20)
        return run(feeds)

    monkeypatch.setattr(streaming._backend, "run", together)
    assert len(list(streaming.stream([make_image(seed) for seed in range(6)]))) == 6


def test_frames_at_once_need_a_number_of_them(variant, tiny):
    with pytest.raises(ValueError, match=r"parallel_frames should be at least 1; found 0"):
        open_engine(tiny, variant, parallel_frames=0)


def test_frames_at_once_share_the_cores(variant, tiny):
    backend, placement = variant
    with Engine(tiny[placement], backend=backend, parallel_frames=64, self_test="off") as engine:
        assert (engine.info.threads, engine.info.parallel_frames) == (1, 64)
        assert len(list(engine.stream([make_image(0)]))) == 1


def test_threads_get_the_same_results_as_one(engine):
    frames = [make_image(seed, height=40 + 8 * (seed % 3), width=96) for seed in range(6)]
    expected = [engine.predict(frame) for frame in frames]
    failures: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for step in range(12):
                index = (offset + step) % len(frames)
                assert_same(engine.predict(frames[index]), expected[index])
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert failures == []


def test_a_closed_engine_refuses(variant, tiny):
    engine = open_engine(tiny, variant, self_test="off")
    engine.close()
    engine.close()
    for use in (lambda: engine.predict(make_image(0)), lambda: list(engine.stream([make_image(0)]))):
        with pytest.raises(EngineClosed, match="closed"):
            use()
    with engine, pytest.raises(EngineClosed):
        engine.predict(make_image(0))


def test_closing_while_others_predict_neither_hangs_nor_crashes(variant, tiny):
    engine, outcomes = open_engine(tiny, variant, self_test="off"), []
    started = threading.Event()

    def work() -> None:
        try:
            while True:
                engine.predict(make_image(0))
                started.set()
        except EdgeMtlError as exc:
            outcomes.append(type(exc))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait(60)
    engine.close()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert outcomes == [EngineClosed] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_refused_and_ends_at_once(variant, tiny):
    engine = open_engine(tiny, variant, self_test="off")
    expected = engine.predict(make_image(0))
    stream = engine.stream([make_image(0)] * 3)
    next(stream)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            refused = 0
            for use in (lambda: engine.predict(make_image(0)), lambda: next(stream)):
                try:
                    use()
                except EngineClosed:
                    refused += 1
            engine.close()
            stream.close()
            del stream, engine
            code = 0 if refused == 2 else 3
        finally:
            os._exit(code)
    assert wait_for(child, 60.0) == 0
    assert_same(engine.predict(make_image(0)), expected)
    assert len(list(stream)) == 2
    engine.close()


def test_what_a_child_inherits_is_no_memory_of_the_runtime(variant, tiny):
    """Freeing it locks the runtime's allocator, which a thread of the parent may hold for ever."""
    backend, placement = variant
    graph = open_backend(backend, tiny[placement].read(OPTIMIZED_ONNX if placement == "host" else REFERENCE_ONNX), threads=1)
    for answered in graph.run({name: np.zeros(spec.shape, spec.dtype) for name, spec in graph.inputs.items()}).values():
        array = answered
        while isinstance(array.base, np.ndarray):
            array = array.base
        assert array.base is None
        assert array.flags.owndata
    graph.close()


FORK_AND_EXIT = """
import os, sys
from edge_mtl import Engine
engine = Engine(sys.argv[1], backend=sys.argv[2], threads=2, self_test="off")
import numpy as np
engine.predict(np.zeros((64, 96, 3), np.uint8))
child = os.fork()
if child == 0:
    del engine
    sys.exit(7)  # the whole way through the interpreter's end
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_drops_the_engine_and_exits_does_not_hang(variant, tiny):
    command = [sys.executable, "-W", "ignore", "-c", FORK_AND_EXIT, str(tiny[variant[1]].path), variant[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("7", "")


def test_loading_and_closing_often_leaves_no_threads(variant, tiny):
    def native_threads() -> int:
        return len(os.listdir("/proc/self/task"))

    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc here")
    open_engine(tiny, variant, self_test="off").close()
    before = native_threads()
    for _ in range(5):
        with Engine(tiny[variant[1]], backend=variant[0], threads=2, self_test="off") as engine:
            engine.predict(make_image(0))
    assert native_threads() <= before + 2


def plane_depth(size: tuple[int, int], camera: Intrinsics, normal: np.ndarray) -> np.ndarray:
    """Depth of the plane normal . X = -1.5 m."""
    v, u = np.mgrid[: size[0], : size[1]]
    rays = np.dstack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(size)])
    return -1.5 / (rays @ normal)


def canonical_normals(size: tuple[int, int], normal: np.ndarray, network_camera: Intrinsics) -> np.ndarray:
    """What the canonical camera would make of the plane's image: from its depth there, not from our formula."""
    depth = plane_depth((64, 96), network_camera, normal) * CANONICAL.fx / network_camera.fx
    found = normals_of_depth(depth.astype(np.float64), CANONICAL)[8:-8, 8:-8].reshape(-1, 3).mean(axis=0)
    return np.broadcast_to(found, (*size, 3))


def assert_same(found, wanted) -> None:
    assert np.array_equal(found.segmentation, wanted.segmentation)
    assert np.array_equal(found.depth, wanted.depth, equal_nan=True)
    assert np.array_equal(found.normals, wanted.normals, equal_nan=True)
    assert agreement(NYU_TASKS, found.results, wanted.results)["argmax_agreement"] == 1.0


def wait_for(child: int, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the child did not end within {timeout_s} s")
