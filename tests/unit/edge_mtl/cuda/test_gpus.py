"""What is known of a GPU, asked from a driver's library that is compiled here and answers like an Orin."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge_mtl.cuda import gpus as module
from edge_mtl.cuda import presence
from edge_mtl.cuda.gpus import Gpu, free_memory, gpus

SOURCE = """
#include <string.h>
int cuInit(unsigned flags) { return FAILS; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, device ? "NVIDIA RTX" : "Orin", size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 8000000000; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 - device : attribute == 18 ? !device : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)8; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxPushCurrent_v2(void *context) { return context != (void *)8; }
int cuCtxPopCurrent_v2(void **context) { return 0; }
int cuMemGetInfo_v2(size_t *available, size_t *total) { *available = 5000000000; *total = 8000000000; return 0; }
"""


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is here to make a driver's library with")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(SOURCE)
    found = {}
    for name, code in (("works", "0"), ("fails", "35")):  # 35: the driver is too old
        found[name] = folder / f"lib{name}.so"
        command = [compiler, "-shared", "-fPIC", f"-DFAILS={code}", "-o", str(found[name]), str(folder / "driver.c")]
        subprocess.run(command, check=True, timeout=60)
    return found


def use(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIBRARIES", (str(driver),))
    monkeypatch.setattr(module, "no_gpu", lambda: "")
    module._asked.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> None:
    module._asked.cache_clear()


def test_gpus_are_described_as_the_driver_does(drivers: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    use(drivers["works"], monkeypatch)
    orin, card = gpus()
    assert orin == Gpu("Orin", "8.7", "12.6", 8_000_000_000, True)
    assert (card.name, card.compute_capability, card.integrated) == ("NVIDIA RTX", "8.6", False)
    assert orin.describe() == "Orin (compute capability 8.7, driver for CUDA 12.6)"
    assert Gpu.from_dict(orin.to_dict()) == orin


def test_free_memory_of_a_card_is_the_drivers_and_of_an_integrated_gpu_the_systems(
    drivers: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(drivers["works"], monkeypatch)
    orin, card = gpus()
    assert free_memory(card, index=1) == 5_000_000_000
    assert free_memory(orin) != 5_000_000_000


def test_a_driver_that_does_not_start_means_no_gpu(drivers: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    use(drivers["fails"], monkeypatch)
    assert gpus() == ()
    assert free_memory(Gpu("x", "8.6", "12.6")) == 0


def test_nothing_is_started_where_no_gpu_shows(drivers: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    use(drivers["works"], monkeypatch)
    monkeypatch.setattr(module, "no_gpu", lambda: "there is no GPU")
    monkeypatch.setattr(module, "_library", lambda: pytest.fail("the driver was loaded"))
    assert gpus() == ()


def test_no_driver_at_all_means_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIBRARIES", ("libnothing-of-the-kind.so",))
    monkeypatch.setattr(module, "no_gpu", lambda: "")
    assert gpus() == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "hides every GPU" in presence.no_gpu()
