"""The text of elastix parameter files, in and out."""

import numpy as np
import pytest

from classreg.errors import InputError
from classreg.io.elastix_text import dump, parse

TEXT = """\ufeff// a comment (with brackets)

(Transform "BSplineTransform")  // and a remark with "quotes"
\t(GridSpacing 10.0 1e-2 -3)
(Names "a b" "" "c//d" "e)f")
(WriteResultImage false)
(Flag 1_0)
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_values_of_every_kind(end):
    assert parse(TEXT.replace("\n", end)) == {
        "Transform": ["BSplineTransform"], "GridSpacing": [10.0, 0.01, -3], "Names": ["a b", "", "c//d", "e)f"],
        "WriteResultImage": ["false"], "Flag": ["1_0"]}
    assert [type(v) for v in parse("(A 10.0 -3 x)")["A"]] == [float, int, str]


@pytest.mark.parametrize("text, line", [
    ("(A 1)\nB 2", 2), ("(A 1)\n\n(B", 3), ("(A)", 1), ("(A )", 1), ('(A "b)', 1), ("(A 1) (B 2)", 1), ("(A 1\n2)", 1),
    ("\n(A 1 (2))", 2), ('(A "b" c"d)', 1)])
def test_a_broken_line_is_named(text, line):
    with pytest.raises(InputError, match=f"^x.txt, line {line}: .* is not a parameter; a line is"):
        parse(text, "x.txt")


def test_twice_and_nothing():
    with pytest.raises(InputError, match="line 3: A was given in line 1 already"):
        parse("(A 1)\n(B 1)\n(A 2)")
    with pytest.raises(InputError, match="holds no parameters"):
        parse("// only this\n")


def test_dump_and_parse_are_opposites():
    values = {"A": ["b c", ""], "N": [3, -2.5, 1e-17, 123456789.123456789, np.float64(0.1), 1e300], "Z": [True, False]}
    assert parse(dump(values)) == {**values, "Z": ["true", "false"]}
    for text in ('a"b', "a\nb"):
        with pytest.raises(InputError, match="cannot hold"):
            dump({"A": [text]})
