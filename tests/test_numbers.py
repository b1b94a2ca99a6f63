"""Single numbers as users give them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from volscen._numbers import bounded_number, finite_number, positive_number, whole_number
from volscen.errors import InputError
from volscen.generators import generator_class


@pytest.mark.parametrize("value", [0.5, "0.5", np.float32(0.5), np.array(0.5)])
def test_a_number_in_any_form(value):
    assert finite_number("x", value) == positive_number("x", value) == bounded_number("x", value, 0, 1) == 0.5


@pytest.mark.parametrize("value", [True, np.True_, None, "half", [0.5], np.array([0.5]), {}, 1j, 10**400])
def test_what_is_no_number(value):
    for read in (finite_number, positive_number, lambda name, given: bounded_number(name, given, -9, 9)):
        with pytest.raises(InputError, match="x must be a number, not"):
            read("x", value)


@pytest.mark.parametrize("value", [np.nan, np.inf, "nan", -np.inf])
def test_what_is_not_finite(value):
    for read in (finite_number, positive_number, lambda name, given: bounded_number(name, given, -9, 9)):
        with pytest.raises(InputError, match="x must be finite"):
            read("x", value)


def test_ends():
    for ends, admitted in (("()", ()), ("[)", (0,)), ("(]", (1,)), ("[]", (0, 1))):
        for value in (0, 1):
            if value in admitted:
                assert bounded_number("x", value, 0, 1, ends=ends) == value
            else:
                with pytest.raises(InputError) as caught:
                    bounded_number("x", value, 0, 1, ends=ends)
                assert str(caught.value) == f"x must lie in {ends[0]}0, 1{ends[1]}, not {value}"
    assert finite_number("x", 2, least=2) == 2.0
    with pytest.raises(InputError, match=r"x must be at least 2, not 1\.5"):
        finite_number("x", 1.5, least=2)
    with pytest.raises(InputError, match="x must be positive, not 0"):
        positive_number("x", 0)


def test_whole_numbers():
    assert whole_number("n", np.int8(3), most=3) == 3
    assert whole_number("n", 0, least=0) == 0
    for value in (0, 1.0, True, "1", None, np.nan, [1]):
        with pytest.raises(InputError, match="n must be a whole number of at least 1, not"):
            whole_number("n", value)
    with pytest.raises(InputError, match="n must be a whole number from 2 to 5, not 6"):
        whole_number("n", 6, least=2, most=5)


@pytest.mark.parametrize(
    "name", ["bootstrap", "fhs", "pca", "har", "sabr", "ddpm", "residual_net", "vae_lstm", "volgan"]
)
def test_options_of_generators_are_named(name):
    """Whatever a constructor is given, it takes or refuses by an error that names the option."""
    kind = generator_class(name)
    for option in inspect.signature(kind).parameters:
        for value in ("x", True, -1, 1.5, np.nan, np.inf, [1], {}, object()):
            said = option
            try:
                kind(**{option: value})
            except InputError as error:
                said = str(error)
            assert option in said
