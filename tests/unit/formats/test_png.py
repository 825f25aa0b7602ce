import io
from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cubegate.errors import NotAcceptable
from cubegate.formats.maps import choose_planes, draw_maps
from cubegate.formats.plots import choose_panels, draw_plots
from cubegate.formats.png import PNGFormat


def picture(result):
    return matplotlib.image.imread(io.BytesIO(b"".join(PNGFormat().write(result))), format="png")


def plot(result):
    figure = draw_plots(result, choose_panels(result))
    FigureCanvasAgg(figure).draw()
    return figure


def atlas(result):
    figure = draw_maps(result, choose_planes(result))
    FigureCanvasAgg(figure).draw()
    return figure


def texts(figure):
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("kind", ["series", "points", "cube"])
def test_it_is_a_picture_with_something_on_it(request, kind):
    drawn = picture(request.getfixturevalue(kind)("displacement"))
    assert 500 < drawn.shape[1] < 3000
    assert len(np.unique(drawn.reshape(-1, drawn.shape[2]), axis=0)) > 20


def test_lines_hold_the_values_and_gaps(series):
    result = series("displacement", "counts")
    figure = plot(result)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Displacement", "counts"]
    assert figure.axes[0].get_ylabel() == "m"
    for axes, name in zip(figure.axes, ("displacement", "counts"), strict=True):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), result.dataset[name].to_numpy().astype("f8"))
        times = pd.DatetimeIndex(axes.lines[0].get_xdata(orig=True)).as_unit("us")
        assert times.equals(pd.DatetimeIndex(result.dataset["time"].to_numpy()).as_unit("us"))


def test_unsorted_times_are_drawn_in_order(series):
    times = np.array(["2020-03-01", "2020-01-01", "2020-02-01"], "M8[ns]")
    dataset = xr.Dataset({"v": ("time", [3.0, 1.0, 2.0])}, {"time": times})
    line = plot(replace(series(), dataset=dataset)).axes[0].lines[0]
    assert line.get_ydata().tolist() == [1, 2, 3]


def test_points_are_lines_with_a_legend(points):
    result = points("displacement")
    axes = plot(result).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["point 7", "point 8", "point 9"]
    for line, expected in zip(axes.lines, result.dataset["displacement"].to_numpy(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), expected.astype("f8"))


def test_the_figure_says_where_and_what_is_left_out(series):
    said = texts(plot(series("displacement", "observed", "valid")))
    assert said[0] == "A demo cube"
    assert "x 400090" in said[1]
    assert "EPSG:32611" in said[1]
    assert said[2] in ("valid = True; not drawn: observed", "valid = False; not drawn: observed")


@pytest.mark.parametrize(("kind", "draw"), [("series", plot), ("cube", atlas)])
def test_the_figure_says_which_conditions_its_values_meet(request, kind, draw):
    result = request.getfixturevalue(kind)("displacement")
    result = replace(result, provenance={**result.provenance, "where": "date_dt<60d", "mask": "good"})
    assert any("where date_dt<60d · mask good" in text for text in texts(draw(result)))


def test_text_is_never_taken_for_mathematics(series):
    dataset = series().dataset.assign(
        v=("time", np.arange(3.0), {"long_name": r"$\broken{", "units": "$m$ 海"})
    )
    result = replace(series(), dataset=dataset[["v"]], provenance={"title": r"$\frac{1$ 海"})
    assert picture(result).size


def test_other_calendars_have_an_axis_of_years(other_calendar):
    axes = plot(other_calendar("displacement")).axes[0]
    assert axes.get_xlabel() == "year (360_day calendar)"
    np.testing.assert_allclose(axes.lines[0].get_xdata()[0], 2020 + 59 / 360)


def test_an_axis_of_days_shows_its_days_even_without_values(series):
    result = series("displacement")
    nothing = replace(result, dataset=result.dataset.assign(displacement=("time", np.full(3, np.nan))))
    axes = plot(nothing).axes[0]
    low, high = axes.get_xlim()
    assert low < 18274
    assert high > 18298
    assert [text.get_text() for text in axes.texts] == ["no data"]


@pytest.mark.parametrize(
    "values",
    [[np.nan] * 3, [np.inf, -np.inf, np.nan], [1e308, -1e308, 0], [5.0] * 3, [0.0] * 3, [5e-324, 0, 1e-300]],
)
@pytest.mark.parametrize("length", [0, 1, 3])
def test_odd_values_do_not_break_a_plot(series, values, length):
    dataset = series().dataset.assign(displacement=("time", np.array(values))).isel(time=slice(length))
    assert picture(replace(series(), dataset=dataset[["displacement"]])).size


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308, 5.0, 0.0, -3.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (4, 5)])
def test_odd_values_do_not_break_a_map(cube, value, shape):
    dataset = cube().dataset.assign(displacement=(("y", "x"), np.full((4, 5), value)))
    assert picture(replace(cube(), dataset=dataset.isel(y=slice(shape[0]), x=slice(shape[1])))).size


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_each_cell_of_a_map_is_painted_in_its_place(cube, ascending, turned):
    values = np.linspace(1, 2, 20).reshape(4, 5)
    result = cube("displacement", ascending=ascending)
    dataset = result.dataset.assign(displacement=(("y", "x"), values)).isel(
        x=slice(None, None, -1 if turned else 1)
    )
    figure = draw_maps(replace(result, dataset=dataset), choose_planes(replace(result, dataset=dataset)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    painted = np.asarray(canvas.buffer_rgba())
    axes = figure.axes[0]
    image = axes.images[0]
    for y in dataset["y"].to_numpy():
        for x in dataset["x"].to_numpy():
            column, row = axes.transData.transform((x, y))
            expected = image.cmap(image.norm(float(dataset["displacement"].sel(x=x, y=y))), bytes=True)
            assert painted[painted.shape[0] - 1 - int(row), int(column)].tolist() == list(expected)
    assert axes.get_ylim()[0] < axes.get_ylim()[1]


def test_a_large_map_is_thinned_in_place(cube):
    values = np.broadcast_to(np.arange(4001.0), (3, 4001))
    dataset = xr.Dataset({"v": (("y", "x"), values)}, {"y": [20.0, 10.0, 0.0], "x": np.arange(4001.0)})
    image = atlas(replace(cube(), dataset=dataset, time=None)).axes[0].images[0]
    left, right, _, _ = image.get_extent()
    drawn = image.get_array()[0]
    assert len(drawn) < 1501
    pixels = left + (right - left) / len(drawn) * (np.arange(len(drawn)) + 0.5)
    assert np.abs(pixels - drawn).max() <= 1.5


def test_times_are_small_multiples_of_one_scale(cube):
    figure = atlas(cube("displacement"))
    maps = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in maps] == ["2020-01-13", "2020-01-25 06:30", "2020-02-06"]
    assert len({axes.images[0].get_clim() for axes in maps}) == 1
    assert maps[0].images[0].cmap.name == "RdBu_r"


def test_many_times_are_evenly_thinned_and_it_is_said(cube):
    result = cube("coherence")
    times = pd.date_range("2020-01-01", periods=3 * 8, freq="D").to_numpy()
    dataset = xr.concat([result.dataset] * 8, "time", data_vars="minimal").assign_coords(time=times)
    figure = atlas(replace(result, dataset=dataset))
    maps = [axes.get_title() for axes in figure.axes if axes.images]
    assert len(maps) == 6
    assert (maps[0], maps[-1]) == ("2020-01-01", "2020-01-24")
    assert "6 of 24 maps, evenly chosen" in texts(figure)


def test_variables_have_their_own_scales(cube):
    figure = atlas(cube("displacement", "coherence"))
    maps = [axes for axes in figure.axes if axes.images]
    assert [axes.images[0].cmap.name for axes in maps] == ["RdBu_r", "viridis"]
    assert "the first time of each variable" in texts(figure)


def test_the_stretch_ignores_the_outermost_values(cube):
    values = np.linspace(10, 20, 20).reshape(4, 5)
    values[0, 0] = 1e6
    result = replace(cube(), dataset=cube().dataset.assign(displacement=(("y", "x"), values)))
    low, high = next(axes for axes in atlas(result).axes if axes.images).images[0].get_clim()
    np.testing.assert_allclose((low, high), np.percentile(values, [2, 98]))


def test_irregular_grids_are_drawn_cell_by_cell(cube):
    result = cube("displacement", geographic=True, crs="EPSG:4326")
    uneven = replace(result, dataset=result.dataset.assign_coords(y=[50.0, 20.0, 10.0, 0.0]))
    axes = atlas(uneven).axes[0]
    assert not axes.images
    assert len(axes.collections) == 1
    assert axes.get_xlabel() == "x (°)"


@pytest.mark.parametrize("names", [("label",), ("observed",)])
def test_what_cannot_be_drawn_is_refused(cube, series, names):
    for result in (cube(*names), series(*names)):
        with pytest.raises(NotAcceptable, match="numbers"):
            PNGFormat().write(result)


def test_too_many_lines_or_panels_are_refused(series, points):
    result = points("displacement")
    many = xr.concat([result.dataset] * 4, "point", data_vars="minimal", coords="minimal", compat="override")
    with pytest.raises(NotAcceptable, match="up to 10 lines"):
        PNGFormat().write(replace(result, dataset=many))
    crowd = xr.Dataset({f"v{n}": ("time", np.zeros(3)) for n in range(13)})
    with pytest.raises(NotAcceptable, match="up to 12 variables"):
        PNGFormat().write(replace(series(), dataset=crowd))


def test_same_result_same_bytes(series):
    assert b"".join(PNGFormat().write(series("displacement"))) == b"".join(
        PNGFormat().write(series("displacement"))
    )
