"""The text of elastix parameter files: one ``(Name value value ...)`` a line.

    // a comment, to the end of the line
    (Transform "BSplineTransform")
    (GridSpacing 10.0 10.0 8.5)

A value in quotation marks is text, one without is a number if it reads as one (whole numbers become int, others float)
and text otherwise. elastix itself does not tell them apart: `(NumberOfResolutions "4")` is a 4 to it. Registration and
transform parameter files share this form; their meaning is elsewhere.

Must not import: SimpleITK, nibabel, anything above `classreg.errors`.
"""

from __future__ import annotations

import re

from ..errors import InputError

LINE = re.compile(r'\(\s*(\w+)\s([^"()]*(?:"[^"]*"[^"()]*)*)\)\s*(?://.*)?')
VALUE = re.compile(r'"([^"]*)"|([^\s"]+)')


def parse(text: str, name: str = "the parameter file") -> dict[str, list]:
    """Parameters by name, in the order of the text, each a list of str, int and float.

    Parameters
    ----------
    text : str
        What the file holds.
    name : str
        How errors call it, such as its path.

    Raises
    ------
    InputError
        For a line that is neither a parameter nor a comment, a name given twice, or no parameter at all; with the
        number of the line.

    Examples
    --------
    >>> parse('(Size 5 7) // x, y\\n(Transform "EulerTransform")')
    {'Size': [5, 7], 'Transform': ['EulerTransform']}
    """
    out, where = {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip().lstrip("\ufeff")
        if not line or line.startswith("//"):
            continue
        found = LINE.fullmatch(line)
        values = [_value(*groups) for groups in VALUE.findall(found[2])] if found else []
        if not values:
            raise InputError(f"{name}, line {number}: {_short(line)} is not a parameter; a line is (Name value ...), "
                             "with text in quotation marks, or a // comment; a file that was cut off ends like this")
        if (key := found[1]) in out:
            raise InputError(f"{name}, line {number}: {key} was given in line {where[key]} already; keep one of them")
        out[key], where[key] = values, number
    if not out:
        raise InputError(f"{name} holds no parameters; a line is (Name value ...)")
    return out


def dump(parameters: dict[str, list]) -> str:
    """The text of parameters: `parse` of it gives them back, but for whether a whole number is int or float.

    Raises
    ------
    InputError
        For a text that the form cannot hold: one with a quotation mark or a line break.

    Examples
    --------
    >>> print(dump({"Size": [5, 7], "UseDirectionCosines": [True]}), end="")
    (Size 5 7)
    (UseDirectionCosines "true")
    """
    return "".join(f"({key} {' '.join(map(_text, values))})\n" for key, values in parameters.items())


def _value(text: str, word: str):
    """A value: what stood between quotation marks, or a word."""
    if not word:
        return text
    for kind in (int, float):
        try:
            return kind(word) if "_" not in word else word
        except ValueError:
            pass
    return word


def _text(value) -> str:
    if isinstance(value, bool):
        return f'"{str(value).lower()}"'
    if isinstance(value, str):
        if '"' in value or len(value.splitlines()) > 1:
            raise InputError(f"an elastix parameter cannot hold {value!r}: a quotation mark or a line break ends it")
        return f'"{value}"'
    return repr(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")
