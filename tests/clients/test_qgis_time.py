"""QGIS sees the dates of the WMS, draws each, and never shows one in place of another."""

import datetime as dt
from urllib.request import urlopen
from xml.etree import ElementTree as ET

import numpy as np
from tests.clients.places import COLOURS, DATES
from tests.clients.qgis_process import (
    BACKGROUND,
    COLORMAP,
    NEEDS_QGIS,
    STYLE,
    VALUE,
    ask,
    check_map,
    draw,
    is_blank,
    wms,
    wms_time,
)
from tests.clients.screens import colours_of

pytestmark = NEEDS_QGIS

POLE = "EPSG:3413", (-2_097_152, -1_048_576, 2_097_152, 1_048_576)
SIZE = (512, 256)
STARTS = [f"{np.datetime_as_string(date, 's')}Z" for date in DATES]
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
SPAN = f"{STARTS[0]}/{STARTS[-1]}/P12D"


def dates_of(url, cube, layer):
    """The dates as the capabilities state them, which QGIS's dialog hands on."""
    with urlopen(f"{url}/datasets/{cube}/wms?service=WMS&request=GetCapabilities") as answer:  # noqa: S310 - loopback
        root = ET.fromstring(answer.read())  # noqa: S314 - of our own server
    space = "{http://www.opengis.net/wms}"
    (found,) = (each for each in root.iter(f"{space}Layer") if each.findtext(f"{space}Name") == layer)
    dimension = found.find(f"{space}Dimension")
    assert (dimension.get("name"), dimension.get("units")) == ("time", "ISO8601")
    return dimension.text


def instant(text):
    return dt.datetime.fromisoformat(text)


def test_dates_are_seen(demo_cubes, demo_url, places_url, tmp_path):
    opera = dates_of(demo_url, "opera-f11116", "displacement")
    ice = dates_of(demo_url, "its-live", "v")
    pole = dates_of(places_url, "pole", "v")
    assert pole == SPAN
    found = ask(
        tmp_path,
        {"do": "describe", "source": wms_time(places_url, "pole", "v", "EPSG:3413", pole)},
        {"do": "describe", "source": wms_time(demo_url, "opera-f11116", "displacement", "EPSG:32611", opera)},
        {"do": "describe", "source": wms_time(demo_url, "its-live", "v", "EPSG:3413", ice)},
        {"do": "describe", "source": wms(places_url, "pole", "v", "EPSG:3413")},
    )
    assert [answer["temporal"] for answer in found] == [True, True, True, False]
    stored = demo_cubes.ice()["mid_date"]
    known = [
        [instant(start) for start in STARTS],
        [date.to_pydatetime().replace(tzinfo=dt.UTC) for date in demo_cubes.dates()],
        sorted({EPOCH + dt.timedelta(days=float(each)) for each in stored[:]}),
    ]
    assert stored.attrs["units"].startswith("days since 1970-01-01")
    for answer, dates in zip(found, known, strict=False):
        assert all(begin == end for begin, end in answer["dates"])
        seen = [instant(begin) for begin, _ in answer["dates"]]
        assert len(seen) == len(dates)
        # QGIS keeps milliseconds
        assert max(abs(one - other) for one, other in zip(seen, dates, strict=True)) < dt.timedelta(
            milliseconds=2
        )


def test_each_date_is_drawn(places, places_url, tmp_path, compared):
    source = wms_time(places_url, "pole", "v", POLE[0], SPAN)
    answers = ask(tmp_path, *(draw(source, *POLE, SIZE, dates=[start, start]) for start in STARTS))
    for number, answer in enumerate(answers):
        check_map(answer, places["pole"], number, POLE, compared)


def test_a_range_shows_the_one_date_that_it_holds(places, places_url, tmp_path, compared):
    source = wms_time(places_url, "pole", "v", POLE[0], SPAN)
    ranges = [
        ["2020-01-10T00:00:00Z", "2020-01-20T00:00:00Z"],
        ["2020-01-15T00:00:00Z", "2020-01-26T23:59:59Z"],
    ]
    answers = ask(
        tmp_path, *(draw(source, *POLE, SIZE, dates=each, timing="MatchUsingWholeRange") for each in ranges)
    )
    for answer in answers:
        check_map(answer, places["pole"], 1, POLE, compared)


REFUSED = [
    (["2020-01-14T00:00:00Z"] * 2, "MatchExactUsingStartOfRange"),
    (["2020-01-15T00:00:01Z"] * 2, "MatchExactUsingStartOfRange"),
    (["2019-12-31T00:00:00Z"] * 2, "MatchExactUsingStartOfRange"),
    (["2020-03-01T00:00:00Z"] * 2, "MatchExactUsingStartOfRange"),
    # before the first date QGIS finds none that is nearest
    (["2019-12-31T00:00:00Z"] * 2, "FindClosestMatchToStartOfRange"),
    # two dates, and none
    (["2020-01-03T00:00:00Z", "2020-01-15T00:00:00Z"], "MatchUsingWholeRange"),
    (["2020-01-16T00:00:00Z", "2020-01-20T00:00:00Z"], "MatchUsingWholeRange"),
]


def test_no_date_is_shown_in_place_of_another(places_url, tmp_path):
    source = wms_time(places_url, "pole", "v", POLE[0], SPAN)
    answers = ask(
        tmp_path, *(draw(source, *POLE, SIZE, dates=dates, timing=timing) for dates, timing in REFUSED)
    )
    for answer, (dates, _) in zip(answers, REFUSED, strict=True):
        assert is_blank(answer), dates
        assert any("TIME=" in text and "Bad Request" in text for _, _, text in answer["log"]), dates


def test_the_last_date_before_an_instant_may_be_chosen(demo_cubes, demo_url, tmp_path, compared):
    """By a property of the layer. Dates are irregular here, down to the nanosecond, and sent to the second."""
    ice, size, step = demo_cubes.ice(), (128, 128), 128
    bounds = west, _, _, north = (-194_560, -2_281_472, -178_176, -2_265_088)
    query = f"rescale=0,3000&colormap={COLORMAP}"
    source = wms_time(
        demo_url, "its-live", "v", "EPSG:3413", dates_of(demo_url, "its-live", "v"), query=query
    )
    days = ice["mid_date"][:]
    picked = np.argsort(days, stable=True)[[0, 5, 200, 409]]
    moments = [EPOCH + dt.timedelta(days=float(days[number]), seconds=2) for number in picked]
    tasks = [
        draw(
            source,
            "EPSG:3413",
            bounds,
            size,
            dates=[f"{moment:%Y-%m-%dT%H:%M:%SZ}"] * 2,
            timing="FindClosestMatchToStartOfRange",
        )
        for moment in moments
    ]
    centres = step * np.arange(size[0]) + step / 2
    columns, rows = (west + centres - (ice["x"][0] - 60)) / 120, (ice["y"][0] + 60 - north + centres) / 120
    clear = (columns % 1 != 0) & (rows % 1 != 0)[:, None]
    assert clear.mean() > 0.8
    for number, answer in zip(picked, ask(tmp_path, *tasks), strict=True):
        assert answer["log"] == []
        speeds = ice["v"][int(number)][np.ix_(rows.astype(int), columns.astype(int))]
        numbers = np.clip(speeds.astype(int) * COLOURS // 3000, 0, COLOURS - 1)
        expected = np.where((speeds == -32767)[..., None], BACKGROUND, colours_of(COLORMAP)[numbers])
        assert len(np.unique(numbers)) > 10
        np.testing.assert_array_equal(answer["pixels"][..., :3][clear], expected[clear])
        compared(speeds[clear])


def test_without_a_time_the_last_date_is_drawn(places, places_url, tmp_path, compared):
    dated, plain = ask(
        tmp_path,
        draw(wms_time(places_url, "pole", "v", POLE[0], SPAN), *POLE, SIZE),
        draw(wms(places_url, "pole", "v", POLE[0], f"time={STARTS[0]}&{STYLE}"), *POLE, SIZE),
    )
    check_map(dated, places["pole"], 2, POLE, compared)
    check_map(plain, places["pole"], 0, POLE, compared)


def test_a_click_asks_about_the_date_that_is_shown(places, places_url, tmp_path, compared):
    source = wms_time(places_url, "pole", "v", POLE[0], SPAN)
    task = {"do": "click", "source": source, "crs": POLE[0], "bounds": POLE[1], "width": 512, "height": 256}
    x, y = places["pole"].transform @ (100.5, 60.5)
    answers = ask(tmp_path, *({**task, "point": (x, y), "dates": [start, start]} for start in STARTS))
    found = [float(VALUE.search(answer["results"]["0"])[1]) for answer in answers]
    expected = [places["pole"].values(number)[60, 100] for number in range(len(STARTS))]
    assert len(set(expected)) == len(expected)
    np.testing.assert_array_equal(found, expected)
    compared(np.array(found))


def test_a_click_finds_the_cell_as_a_feature(places, places_url, tmp_path, compared):
    """In QGIS the cell then flashes at its place on the map."""
    source = wms_time(places_url, "pole", "v", POLE[0], SPAN)
    x, y = places["pole"].transform @ (100.5, 60.5)
    (found,) = ask(
        tmp_path,
        {
            "do": "click", "source": source, "crs": POLE[0], "bounds": POLE[1], "width": 512, "height": 256,
            "point": (x + 9_000, y - 9_000), "dates": [STARTS[1], STARTS[1]], "form": "Feature",
        },
    )  # fmt: skip
    assert found["wkt"] == f"Point ({x:.0f} {y:.0f})"
    assert found["fields"]["value"] == places["pole"].values(1)[60, 100]
    assert found["fields"]["time"] == STARTS[1]
    compared(np.ones(1))
