"""Sensors over a made-up /sys, and a stand-in for NVIDIA's library: what they read, and why they say they cannot."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_mtl.bench.conditions import Conditions, commit
from edge_mtl.bench.sensors import Unavailable, energy_sources, read_state, throttling
from edge_mtl.bench.sensors.hwmon import Hwmon
from edge_mtl.bench.sensors.nvml import Nvml
from edge_mtl.bench.sensors.rapl import Rapl
from edge_mtl.bench.sensors.state import MachineState, Shares, processor_shares
from tests.fakes.nvml import Library


def put(root: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")
    return root


PACKAGES = {
    "intel-rapl:0/name": "package-0",
    "intel-rapl:0/energy_uj": 1_000_000,
    "intel-rapl:0/max_energy_range_uj": 10_000_000,
    "intel-rapl:0:0/name": "core",
    "intel-rapl:0:0/energy_uj": 7,
    "intel-rapl:0:1/name": "dram",
    "intel-rapl:0:1/energy_uj": 500_000,
    "intel-rapl:0:1/max_energy_range_uj": 10_000_000,
    "intel-rapl:1/name": "psys",
    "intel-rapl:1/energy_uj": 9,
}


def test_rapl_adds_package_and_memory_and_counts_nothing_twice(tmp_path: Path) -> None:
    found = Rapl.find(put(tmp_path, PACKAGES))
    assert isinstance(found, Rapl)
    assert found.covers == "processor package and memory"
    put(tmp_path, {"intel-rapl:0/energy_uj": 3_000_000, "intel-rapl:0:1/energy_uj": 1_500_000, "intel-rapl:0:0/energy_uj": 99})
    assert found.joules() == pytest.approx(3.0)


def test_rapl_counts_on_when_a_counter_wraps_around(tmp_path: Path) -> None:
    found = Rapl.find(put(tmp_path, PACKAGES))
    assert isinstance(found, Rapl)
    put(tmp_path, {"intel-rapl:0/energy_uj": 250_000})
    assert found.joules() == pytest.approx((10_000_000 - 1_000_000 + 250_000) / 1e6)
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    with pytest.raises(OSError, match="cannot be read"):
        found.joules()


def test_rapl_says_why_it_is_not_there(tmp_path: Path) -> None:
    absent = Rapl.find(tmp_path / "powercap")
    assert isinstance(absent, Unavailable)
    assert "does not exist" in absent.reason
    empty = Rapl.find(put(tmp_path, {"intel-rapl:1/name": "psys"}))
    assert isinstance(empty, Unavailable)
    assert "processor package" in empty.reason
    if os.geteuid() != 0:
        put(tmp_path, PACKAGES)
        (tmp_path / "intel-rapl:0/energy_uj").chmod(0)
        locked = Rapl.find(tmp_path)
        assert isinstance(locked, Unavailable)
        assert "root" in locked.reason


def test_a_jetson_is_measured_at_the_rail_that_feeds_the_board(tmp_path: Path) -> None:
    rails = {"hwmon3/name": "ina3221", "hwmon3/curr4_input": 99_999}
    for number, (label, millivolts, milliamperes) in enumerate(
        (("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 400)), start=1
    ):
        rails |= {f"hwmon3/in{number}_label": label, f"hwmon3/in{number}_input": millivolts}
        rails |= {f"hwmon3/curr{number}_input": milliamperes}
    found = Hwmon.find(put(tmp_path, rails))
    assert isinstance(found, Hwmon)
    assert found.covers == "the whole board (VDD_IN)"
    assert found.watts() == pytest.approx(10.0)


def test_rails_are_added_where_none_feeds_the_others(tmp_path: Path) -> None:
    files = {
        "hwmon0/name": "coretemp",
        "hwmon1/name": "ina226",
        "hwmon1/curr1_input": 1,
        "hwmon1/in1_input": 1,
        "hwmon1/power1_input": 2_500_000,
        "hwmon2/name": "ina219",
        "hwmon2/in1_label": "camera",
        "hwmon2/curr1_input": 500,
        "hwmon2/in1_input": 3000,
    }
    found = Hwmon.find(put(tmp_path, files))
    assert isinstance(found, Hwmon)
    assert found.watts() == pytest.approx(4.0)
    assert found.covers == "the sum of the rails ina226 1, camera"


def test_a_board_without_power_sensors_names_those_it_has(tmp_path: Path) -> None:
    found = Hwmon.find(put(tmp_path, {"hwmon0/name": "coretemp"}))
    assert isinstance(found, Unavailable)
    assert "coretemp" in found.reason


def test_a_gpu_tells_energy_memory_clocks_and_what_slows_it() -> None:
    found = Nvml.find(Library())
    assert isinstance(found, Nvml)
    assert (found.joules(), found.watts(), found.memory_bytes(), found.used_bytes()) == (2.5, 42.0, 1 << 20, 5 << 20)
    assert found.memory_bytes(process=-1) is None
    state = found.state()
    assert (state["model"], state["sm_mhz"], state["power_limit_w"]) == ("Example GPU", 1500, 300.0)
    assert state["slowed_by"] == ["power cap"], "being idle slows nothing"


def test_a_gpu_that_was_held_back_between_two_looks_only_is_found_out() -> None:
    library = Library()
    found = Nvml.find(library)
    assert isinstance(found, Nvml)
    library.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = 1
    library.answers["nvmlDeviceGetViolationStatus"] = SimpleNamespace(violationTime=5_000_000_000)
    before = MachineState(gpu=found.state())
    assert throttling(before, before) == ()
    library.answers["nvmlDeviceGetViolationStatus"] = SimpleNamespace(violationTime=6_500_000_000)
    said = throttling(before, MachineState(gpu=found.state()))
    assert said == tuple(f"the GPU was held back by {why} for 1.5 s" for why in ("its power limit", "heat"))


def test_a_gpu_that_answers_little_is_used_for_what_it_answers() -> None:
    found = Nvml.find(Library(silent=("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetClockInfo")))
    assert isinstance(found, Nvml)
    assert not found.counts_energy
    assert "sm_mhz" not in found.state()
    with pytest.raises(OSError, match="no energy counter"):
        found.joules()
    absent = Nvml.find(Library(silent=("nvmlInit",)))
    assert isinstance(absent, Unavailable)
    assert "Not Supported" in absent.reason


def test_every_source_is_found_or_says_why_not(tmp_path: Path) -> None:
    none = Unavailable("NVML", "no GPU")
    found, missing = energy_sources(root=tmp_path, gpu_found=none)
    assert found == ()
    assert [item.name for item in missing] == ["RAPL", "hwmon", "NVML"]
    put(tmp_path / "sys/class/powercap", PACKAGES)
    found, missing = energy_sources(root=tmp_path, gpu_found=none)
    assert [source.name for source in found] == ["RAPL"]


def jetson(root: Path, *, throttled: int) -> Path:
    return put(
        root,
        {
            "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=15W >",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": 1_190_400,
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": 729_600,
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": 1_510_400,
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": 48_500,
            "sys/class/devfreq/17000000.ga10b/cur_freq": 306_000_000,
            "sys/class/devfreq/other/cur_freq": 5,
            "sys/fs/cgroup/cpu.stat": f"usage_usec 5\nnr_throttled {throttled}",
            "proc/loadavg": "0.42 0.30 0.20 1/100 5",
            "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0",
        },
    )


def test_the_state_of_a_machine_is_read(tmp_path: Path) -> None:
    found = read_state(root=jetson(tmp_path, throttled=0))
    assert found.power_mode == "nvpmodel 2 (15W)"
    assert found.governor == "schedutil"
    assert found.clocks_mhz == pytest.approx((729.6, 1190.4))
    assert found.limit_mhz == pytest.approx(1510.4)
    assert found.temperatures_c == {"cpu-thermal": 48.5}
    assert found.gpu_clocks_mhz == {"17000000.ga10b": 306.0}
    assert found.load == 0.42
    assert read_state(root=tmp_path / "nowhere").to_dict().keys() <= {"load"}


def test_the_time_of_this_process_is_told_from_that_of_others() -> None:
    before, end = read_state().to_dict(), time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = read_state().to_dict()
    assert 0.25 < (after["own_ticks"] - before["own_ticks"]) / os.sysconf("SC_CLK_TCK") < 3.0
    assert processor_shares(before, after).others is not None
    taken = {"cpu_ticks": 1000, "idle_ticks": 100, "stolen_ticks": 50, "own_ticks": 600}
    assert processor_shares(dict.fromkeys(taken, 0), taken) == Shares(stolen=0.05, others=0.25, idle=0.1)


def test_what_held_the_machine_back_is_said_and_a_quiet_machine_is_not_accused(tmp_path: Path) -> None:
    before = read_state(root=jetson(tmp_path, throttled=3))
    assert throttling(before, before) == ()
    put(tmp_path, {"sys/class/thermal/thermal_zone0/temp": 97_000, "proc/stat": "cpu  200 0 200 1400 0 0 0 200 0 0"})
    put(tmp_path, {"sys/class/hwmon/hwmon1/oc3_event_cnt": 2, "sys/fs/cgroup/cpu.stat": "nr_throttled 7"})
    put(tmp_path, {"var/lib/nvpmodel/status": "pmode:0000"})
    after = read_state(root=tmp_path, gpu={"slowed_by": ["power cap"]})
    said = " ".join(throttling(before, after))
    for words in (
        "quota used up: 4 times",
        "cpu-thermal reached 97",
        "20%",
        "power mode changed",
        "power cap",
        "over-current (oc3): 2 times",
    ):
        assert words in said
    assert throttling(MachineState(), MachineState()) == ()


def test_conditions_name_the_command_and_the_machine() -> None:
    found = Conditions(["edge-mtl", "benchmark", "my bundle"]).describe()
    assert found["command"] == "edge-mtl benchmark 'my bundle'"
    assert found["device"]["key"]
    assert "numpy" in found["versions"]
    assert set(found["state"]) == {"before", "after"}


def test_a_folder_outside_a_repository_has_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
