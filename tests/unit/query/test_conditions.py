import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.errors import InvalidParameter
from cubegate.query.conditions import MAX_COUNT, MAX_LENGTH, parse_conditions


def _parts(text):
    return [
        (each.variable, each.operator, each.value, each.quoted) for each in parse_conditions([text], "where")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recommended_mask", [("recommended_mask", "", "", False)]),
        ("date_dt<60d", [("date_dt", "<", "60d", False)]),
        ("temporal_coherence>=0.6", [("temporal_coherence", ">=", "0.6", False)]),
        (" a != -1.5e-3 ", [("a", "!=", "-1.5e-3", False)]),
        ("a<=.5", [("a", "<=", ".5", False)]),
        ("a>2020-01-31T12:00:00Z", [("a", ">", "2020-01-31T12:00:00Z", False)]),
        ("satellite_img1='1A'", [("satellite_img1", "=", "1A", True)]),
        ("satellite_img1=1A", [("satellite_img1", "=", "1A", False)]),
        ('s="it\'s, ""so"" < it is"', [("s", "=", 'it\'s, "so" < it is', True)]),
        ("s='O''Neill, A'", [("s", "=", "O'Neill, A", True)]),
        ("s=''", [("s", "=", "", True)]),
        ("a>=0.6,b , c='x'", [("a", ">=", "0.6", False), ("b", "", "", False), ("c", "=", "x", True)]),
        ("größe=1", [("größe", "=", "1", False)]),
    ],
)
def test_what_is_a_condition(text, expected):
    assert _parts(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "a,",
        ",a",
        "a,,b",
        "a<",
        "<5",
        "a==5",
        "a=<5",
        "a=>5",
        "a<>5",
        "a!5",
        "1<a<2",
        "a<5 and b>2",
        "a='x",
        "a=x'",
        "a='x'y'",
        "a='x''",
        "'a'=1",
        "a b",
        "a\x00=1",
        "a='\n'",
        "a='\ud800'",
        "a<" + "9" * MAX_LENGTH,
        ",".join(["a"] * (MAX_COUNT + 1)),
    ],
)
def test_what_is_no_condition(text):
    with pytest.raises(InvalidParameter) as caught:
        parse_conditions([text], "mask")
    assert caught.value.parameter == "mask"
    assert caught.value.accepted


def test_a_repeated_parameter_adds_conditions_and_the_limit_is_on_all():
    assert [str(each) for each in parse_conditions(["a", "b<1,c"], "where")] == ["a", "b<1", "c"]
    with pytest.raises(InvalidParameter, match="21 conditions"):
        parse_conditions(["a"] * (MAX_COUNT + 1), "where")


WORDS = st.text(
    st.characters(categories=["L", "N"], include_characters="_-.:+()[]{}*/;"), min_size=1, max_size=12
)
VALUES = st.one_of(
    st.tuples(WORDS, st.just(False)),
    st.tuples(
        st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=12),
        st.just(True),
    ),
)


@given(
    st.lists(
        st.tuples(WORDS, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES), min_size=1, max_size=5
    )
)
def test_every_condition_is_read_back_as_it_is_written(parts):
    written = []
    for variable, operator, (value, quoted) in parts:
        text = "'" + value.replace("'", "''") + "'" if quoted else value
        written.append(f"{variable}{operator}{text}")
    found = parse_conditions([", ".join(written)], "where")
    assert [(each.variable, each.operator, (each.value, each.quoted)) for each in found] == parts
    assert parse_conditions([",".join(map(str, found))], "where") == found


def _read(text):
    """The conditions, or the error."""
    try:
        return parse_conditions([text], "where")
    except InvalidParameter as error:
        return error


@given(st.text(alphabet="ab,=!<>'\" 1d.\\()[]{}%$`;#\x00é\ud800", max_size=60))
def test_text_that_looks_like_conditions_is_read_or_refused(text):
    found = _read(text)
    if isinstance(found, tuple):
        assert all(each.variable for each in found)
        assert _read(", ".join(map(str, found))) == found
    else:
        assert found.parameter == "where"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words_that_can_be_printed(text):
    found = _read(text)
    assert isinstance(found, tuple) or found.detail.isprintable()
