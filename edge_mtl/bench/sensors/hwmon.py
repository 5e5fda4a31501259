"""Power from INA sensors under /sys/class/hwmon, as on Jetson boards (INA3221) and many carrier boards (INA2xx).

Sources: Linux kernel documentation, hwmon/sysfs-interface, hwmon/ina3221, hwmon/ina2xx; rail names: NVIDIA Jetson Linux
Developer Guide, "Power monitor". Knows files; knows nothing about what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_mtl.bench.sensors.sources import Unavailable, read_number, read_text

__all__ = ["Hwmon", "Rail"]

_NAME = "hwmon"
_CHIPS = ("ina3221", "ina219", "ina220", "ina226", "ina230", "ina231", "ina238", "ina260")
_WHOLE_BOARD = ("VDD_IN", "VIN_SYS_5V0", "SYS_VIN", "VIN", "POM_5V_IN", "VDD_IN_SYS")
"""Rails that feed everything else: with one of these no other is added."""


@dataclass(frozen=True, slots=True)
class Rail:
    """One measured supply line: in watts from `power`, or from `current` (mA) and `voltage` (mV)."""

    label: str
    power: Path | None
    current: Path | None
    voltage: Path | None

    def watts(self) -> float:
        """Power now. Raises OSError when the sensor has gone."""
        if self.power is not None:
            microwatts = read_number(self.power)
            if microwatts is not None:
                return microwatts / 1e6
        if self.current is not None and self.voltage is not None:
            milliamperes, millivolts = read_number(self.current), read_number(self.voltage)
            if milliamperes is not None and millivolts is not None:
                return milliamperes * millivolts / 1e6
        raise OSError(f"the sensor of rail {self.label} cannot be read")


class Hwmon:
    """The rail that feeds the whole board, or the sum of all rails where none does."""

    name = _NAME

    def __init__(self, rails: tuple[Rail, ...], covers: str) -> None:
        self.rails = rails
        self.covers = covers

    @classmethod
    def find(cls, root: Path = Path("/sys/class/hwmon")) -> Hwmon | Unavailable:
        """The INA sensors under `root`, or why there are none."""
        if not root.is_dir():
            return Unavailable(_NAME, f"{root} does not exist: no sensors here, or a virtual machine")
        found: list[Rail] = []
        for chip in sorted(root.glob("hwmon*")):
            if (read_text(chip / "name") or "") in _CHIPS:
                found += _rails(chip)
        readable = [rail for rail in found if _works(rail)]
        if not readable:
            chips = sorted({read_text(chip / "name") or "?" for chip in root.glob("hwmon*")})
            return Unavailable(_NAME, f"no readable INA power sensor under {root} (found: {', '.join(chips) or 'nothing'})")
        for label in _WHOLE_BOARD:
            for rail in readable:
                if rail.label.upper() == label:
                    return cls((rail,), f"the whole board ({rail.label})")
        names = ", ".join(rail.label for rail in readable)
        return cls(tuple(readable), f"the sum of the rails {names}")

    def watts(self) -> float:
        """See `PowerSource.watts`."""
        return sum(rail.watts() for rail in self.rails)


def _rails(chip: Path) -> list[Rail]:
    name = read_text(chip / "name") or chip.name
    rails = []
    for current in sorted(chip.glob("curr*_input")):
        number = current.name.removeprefix("curr").removesuffix("_input")
        if not number.isdigit() or int(number) > 3:  # INA3221: 4 and above are sums of the others
            continue
        label = read_text(chip / f"in{number}_label") or read_text(chip / f"curr{number}_label") or f"{name} {number}"
        power = chip / f"power{number}_input"
        # INA2xx: in0 is the shunt and in1 the bus; INA3221: in1 to in3 are the buses.
        rails.append(Rail(label, power if power.exists() else None, current, chip / f"in{number}_input"))
    return rails


def _works(rail: Rail) -> bool:
    try:
        return rail.watts() >= 0
    except OSError:
        return False
