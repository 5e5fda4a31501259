"""Weather and time of day: where the light comes from, how far one sees, what the camera does. Knows nothing about shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtl.datasets.worlds.materials import Colour, Rng

from .classes import Time, Weather

__all__ = ["Conditions", "draw_conditions"]

_KOSCHMIEDER = 3.912
"""Visibility times extinction: at that distance 2 % of the contrast is left (Koschmieder 1924)."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that a frame's light depends on; none of it moves anything.

    Attributes:
        sun: unit vector towards the sun, and its irradiance, 0 where it is not seen.
        zenith, horizon: radiance of the sky.
        clouds: 0..1, how much of it is covered.
        extinction: of the air, per metre.
        haze: radiance of endless fog.
        wet: 0..1, how wet the ground is.
        rain: 0..1, how many streaks of rain there are.
        dark: whether lamps are lit, those of the car too.
        exposure: the least and the greatest median that the camera brings a frame to.
        noise: of the sensor, in that of daylight.
    """

    weather: Weather
    time: Time
    sun: tuple[float, float, float]
    sun_power: Colour
    zenith: Colour
    horizon: Colour
    clouds: float
    extinction: float
    haze: Colour
    wet: float
    rain: float
    dark: bool
    exposure: tuple[float, float]
    noise: float


def draw_conditions(rng: Rng, weather: Weather, time: Time) -> Conditions:
    """The light of a kind of weather at a time of day."""
    azimuth = float(rng.uniform(0, 2 * np.pi))
    elevation = float(rng.uniform(0.4, 1.25)) if time == "daytime" else float(rng.uniform(0.06, 0.22))
    sun = (
        float(np.cos(elevation) * np.cos(azimuth)),
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
    )
    warm = float(rng.uniform(0, 1))
    power: Colour
    if time == "daytime":
        power, zenith, horizon = (2.9, 2.7 - 0.15 * warm, 2.45 - 0.3 * warm), (0.22, 0.4, 0.85), (0.75, 0.85, 1.0)
    elif time == "dawn/dusk":
        power, zenith, horizon = (1.25, 0.75 - 0.15 * warm, 0.42 - 0.2 * warm), (0.2, 0.26, 0.45), (1.0, 0.66, 0.42)
    else:
        power, zenith, horizon = (0.0, 0.0, 0.0), (0.004, 0.005, 0.01), (0.014, 0.012, 0.012)
    clouds = float(rng.uniform(0.0, 0.5))
    grey = {"daytime": 0.78, "dawn/dusk": 0.34, "night": 0.012}[time]
    visibility_m = float(rng.uniform(3000, 12000))
    if weather != "clear":
        power, clouds = (0.0, 0.0, 0.0), 1.0
        shade = grey * float(rng.uniform(0.75, 1.1)) * {"overcast": 1.0, "rainy": 0.7, "foggy": 0.9}[weather]
        tint = (1.05, 0.95, 0.88) if time == "dawn/dusk" else (0.95, 0.99, 1.04)
        zenith = (shade * tint[0], shade * tint[1], shade * tint[2])
        horizon = (zenith[0] * 1.12, zenith[1] * 1.1, zenith[2] * 1.08)
    if weather == "rainy":
        visibility_m = float(rng.uniform(350, 1200))
    elif weather == "foggy":
        visibility_m = float(np.exp(rng.uniform(np.log(70), np.log(260))))
    mean = tuple(0.5 * (a + b) for a, b in zip(zenith, horizon, strict=True))
    haze = (mean[0], mean[1], mean[2]) if time != "night" else (0.02, 0.019, 0.018)
    dark = time == "night" or (time == "dawn/dusk" and weather != "clear")
    return Conditions(
        weather,
        time,
        sun,
        power,
        zenith,
        horizon,
        clouds,
        _KOSCHMIEDER / visibility_m,
        haze,
        wet=float(rng.uniform(0.6, 1.0)) if weather == "rainy" else 0.0,
        rain=float(rng.uniform(0.3, 1.0)) if weather == "rainy" else 0.0,
        dark=dark,
        exposure={"daytime": (0.19, 0.34), "dawn/dusk": (0.12, 0.26), "night": (0.02, 0.055)}[time],
        noise={"daytime": 1.0, "dawn/dusk": 1.6, "night": 2.8}[time],
    )
