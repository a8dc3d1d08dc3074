"""Borders of service areas in GeoJSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.directory import geojson
from referral_bus.directory.geojson import polygons
from referral_bus.directory.values import Unusable
from services.matching.core.judging.areas import borders, within

SQUARE = [[-87.7, 41.8], [-87.6, 41.8], [-87.6, 41.9], [-87.7, 41.9], [-87.7, 41.8]]
HOLE = [[-87.66, 41.84], [-87.66, 41.86], [-87.64, 41.86], [-87.64, 41.84], [-87.66, 41.84]]


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def serves(document: Any, latitude: float, longitude: float) -> bool:
    found = borders(polygons(json.dumps(document)))
    return any(within(one, round(latitude * 1e6), round(longitude * 1e6)) for one in found)


def test_coordinates_become_whole_micro_degrees_latitude_first() -> None:
    (found,) = polygons(json.dumps(polygon(SQUARE)))
    assert found.rings[0].points == [
        41_800_000, -87_700_000, 41_800_000, -87_600_000, 41_900_000, -87_600_000, 41_900_000, -87_700_000,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        polygon(SQUARE, HOLE),
        {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]},
        {"type": "Feature", "properties": {"name": "x"}, "geometry": polygon(SQUARE, HOLE)},
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "geometry": polygon(SQUARE, HOLE)}],
        },
        {"type": "GeometryCollection", "geometries": [polygon(SQUARE, HOLE)]},
    ],
)
def test_polygons_are_read_from_whatever_holds_them(document: dict[str, Any]) -> None:
    assert serves(document, 41.81, -87.69)
    assert not serves(document, 41.85, -87.65)
    assert not serves(document, 41.85, -87.5)


def test_a_ring_over_the_date_line_is_one_ring_whichever_way_it_is_written() -> None:
    jumping = [[178, -18], [-178, -18], [-178, -16], [178, -16], [178, -18]]
    going_on = [[178, -18], [182, -18], [182, -16], [178, -16], [178, -18]]
    split = {
        "type": "MultiPolygon",
        "coordinates": [
            [[[178, -18], [180, -18], [180, -16], [178, -16], [178, -18]]],
            [[[-180, -18], [-178, -18], [-178, -16], [-180, -16], [-180, -18]]],
        ],
    }
    for document in (polygon(jumping), polygon(going_on), split):
        for longitude, expected in (
            (179, True),
            (-179, True),
            (180, True),
            (-180, True),
            (0, False),
            (177, False),
        ):
            assert serves(document, -17, longitude) is expected, document


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("extent", "is not GeoJSON"),
        ("[" * 100_000, "is not GeoJSON"),
        ('{"type":"Polygon","coordinates":[[[NaN,1],[2,3],[4,5],[NaN,1]]]}', "is not GeoJSON"),
        ("[]", "expected an object"),
        ("{}", "which is no area"),
        ('{"type":"Point","coordinates":[1,2]}', "'Point', which is no area"),
        ('{"type":"FeatureCollection","features":[]}', "no Polygon or MultiPolygon"),
        ('{"type":"Polygon","coordinates":7}', "expected a list"),
        ('{"type":"Polygon","coordinates":[]}', "at least 1"),
        ('{"type":"Polygon","coordinates":[[[1],[2]]]}', "fewer than two"),
        ('{"type":"Polygon","coordinates":[[["a","b"],["a","b"]]]}', "not a number"),
        ('{"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1]]]}', "not closed"),
        ('{"type":"Polygon","coordinates":[[[0,0],[0,1],[0,0]]]}', "at least 6"),
        ('{"type":"Polygon","coordinates":[[[0,0],[0,91],[1,91],[0,0]]]}', "off the earth"),
        ('{"type":"Polygon","coordinates":[[[0,0],[1e9,1],[1,1],[0,0]]]}', "off the earth"),
        (
            '{"type":"Polygon","coordinates":[[[0,80],[120,80],[-120,80],[0,80]]]}',
            "round a pole",
        ),
    ],
)
def test_what_is_no_area_is_said(text: str, part: str) -> None:
    with pytest.raises(Unusable, match=part):
        polygons(text)


def test_a_border_of_too_many_points_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geojson, "MOST_POINTS", 3)
    with pytest.raises(Unusable, match="4 points; simplify"):
        polygons(json.dumps(polygon(SQUARE)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-200, 200) | st.floats(-200, 200) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["Polygon", "MultiPolygon", "Feature", "GeometryCollection"])},
            optional={"coordinates": inner, "geometry": inner, "geometries": inner},
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_stands_there_is_an_area_or_unusable(document: object) -> None:
    try:
        assert polygons(json.dumps(document))
    except Unusable as why:
        assert str(why)
