"""What data sets say of themselves: title, licence, and whether their images may be passed on."""

from __future__ import annotations

from mtl.datasets.sources import data_set
from mtl.settings import DataSettings


def test_rooms_may_be_passed_on_and_nyuv2_may_not() -> None:
    found = {kind: data_set(DataSettings(kind=kind)).redistributable(DataSettings(kind=kind)) for kind in ("rooms", "nyuv2")}
    assert found == {"rooms": True, "nyuv2": False}


def test_a_data_set_says_its_title_and_its_licence() -> None:
    for kind in ("rooms", "nyuv2"):
        data = DataSettings(kind=kind)
        assert data_set(data).title(data)
        assert data_set(data).licence(data)
        assert data_set(data).parts(data) == ((data_set(data), data),), "it is not mixed of others"
