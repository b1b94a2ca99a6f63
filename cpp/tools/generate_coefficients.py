"""Generate cpp/include/volscen/coefficients.hpp: every fitted constant the kernels use.

Run ``python cpp/tools/generate_coefficients.py`` (needs mpmath) to rewrite the header; ``--check`` fails
when the committed header differs from what this script makes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import mpmath as mp

HEADER = Path(__file__).resolve().parents[1] / "include" / "volscen" / "coefficients.hpp"
Function = Callable[[mp.mpf], mp.mpf]


def erfcx(z: mp.mpf) -> mp.mpf:
    """Return exp(z^2) erfc(z) for z >= 0; a continued fraction where the product would underflow."""
    if z < 20:
        return mp.exp(z * z) * mp.erfc(z)
    tail = z
    for n in range(400, 0, -1):
        tail = z + mp.mpf(n) / 2 / tail
    return 1 / (mp.sqrt(mp.pi) * tail)


def rational_on_half_line(f: Function, degree: int, centre: mp.mpf) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Interpolate f on [0, inf) by P/Q, deg P = degree - 1 and deg Q = degree, with Q(0) = 1.

    The nodes are Chebyshev points of (z - centre)/(z + centre), which makes the error nearly equal in
    size over the whole half line.
    """
    count = 2 * degree
    matrix, right = mp.matrix(count, count), mp.matrix(count, 1)
    for i in range(count):
        t = mp.cos(mp.pi * (2 * i + 1) / (2 * count))
        z = centre * (1 + t) / (1 - t)
        value, scale = f(z), 1 / (1 + z) ** (degree - 1)
        for j in range(degree):
            matrix[i, j] = scale * z**j
            matrix[i, degree + j] = -scale * value * z ** (j + 1)
        right[i] = scale * value
    solution = mp.lu_solve(matrix, right)
    return [solution[j] for j in range(degree)], [mp.mpf(1)] + [solution[degree + j] for j in range(degree)]


def polynomial(f: Function, low: mp.mpf, high: mp.mpf, degree: int) -> list[mp.mpf]:
    """Interpolate f on [low, high] at Chebyshev points; monomial coefficients, constant first."""
    count = degree + 1
    matrix, right = mp.matrix(count, count), mp.matrix(count, 1)
    for i in range(count):
        x = (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count))
        for j in range(count):
            matrix[i, j] = x**j
        right[i] = f(x)
    solution = mp.lu_solve(matrix, right)
    return [solution[j] for j in range(count)]


def exp_remainder(r: mp.mpf) -> mp.mpf:
    """(exp(r) - 1 - r)/r^2."""
    if abs(r) < mp.mpf("1e-12"):
        return mp.mpf(1) / 2 + r / 6
    return (mp.exp(r) - 1 - r) / r**2


def log_remainder(s2: mp.mpf) -> mp.mpf:
    """(log((1 + s)/(1 - s)) - 2 s)/s^3 as a function of s^2."""
    if s2 < mp.mpf("1e-20"):
        return mp.mpf(2) / 3 + 2 * s2 / 5
    s = mp.sqrt(s2)
    return (2 * mp.atanh(s) - 2 * s) / s**3


def mills_slope(a: mp.mpf) -> mp.mpf:
    """1 - a R(a) with Mills' ratio R, a >= 0: Bachelier's time value over s phi(a)."""
    return 1 - a * mp.sqrt(mp.pi / 2) * erfcx(a / mp.sqrt(2))


def bachelier_log_ratio(a: mp.mpf) -> mp.mpf:
    """ln(m/v) of Bachelier's time value v at the distance m = a s from the money."""
    return a * a / 2 + mp.log(mp.sqrt(2 * mp.pi) * a / mills_slope(a))


def bachelier_distance(log_ratio: mp.mpf) -> mp.mpf:
    """Return a = m/s from ln(m/v), by bisection in ln(a)."""
    low, high = log_ratio - 10 - abs(log_ratio), mp.log(2 + mp.sqrt(2 * abs(log_ratio)))
    for _ in range(90):
        middle = (low + high) / 2
        if bachelier_log_ratio(mp.exp(middle)) < log_ratio:
            low = middle
        else:
            high = middle
    return mp.exp((low + high) / 2)


def black_log_value(x: mp.mpf, s: mp.mpf) -> mp.mpf:
    """Logarithm of Black's time value over sqrt(F K) at x = ln(hi/lo) and total vol s."""
    value = mp.exp(-x / 2) * mp.ncdf(s / 2 - x / s) - mp.exp(x / 2) * mp.ncdf(-s / 2 - x / s)
    return mp.log(value)


def rational(f: Function, nodes: list[mp.mpf], top: int, bottom: int) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Interpolate f at the nodes by P/Q of the degrees given, Q(0) = 1."""
    matrix, right = mp.matrix(len(nodes), len(nodes)), mp.matrix(len(nodes), 1)
    for i, z in enumerate(nodes):
        value, scale = f(z), 1 / (1 + z) ** top
        for j in range(top + 1):
            matrix[i, j] = scale * z**j
        for j in range(bottom):
            matrix[i, top + 1 + j] = -scale * value * z ** (j + 1)
        right[i] = scale * value
    c = mp.lu_solve(matrix, right)
    return [c[j] for j in range(top + 1)], [mp.mpf(1)] + [c[top + 1 + j] for j in range(bottom)]


def chebyshev(low: mp.mpf, high: mp.mpf, count: int) -> list[mp.mpf]:
    """Chebyshev points of [low, high]."""
    angles = [mp.pi * (2 * i + 1) / (2 * count) for i in range(count)]
    return [(low + high) / 2 + (high - low) / 2 * mp.cos(angle) for angle in angles]


def black_correction(pole: mp.mpf, top: mp.mpf, degrees: tuple[int, ...]) -> tuple[list[list[mp.mpf]], mp.mpf]:
    """Least squares for C(z, w) in s = b (1 + w z C), b Bachelier's s, w = b^2, z = b/(b + pole x).

    One list of coefficients in z for each power of w, and the largest relative error left.
    """
    terms = [(i, j) for i, degree in enumerate(degrees) for j in range(degree + 1)]
    rows, right = [], []
    for z in chebyshev(mp.mpf("0.005"), mp.mpf(1), 2 * max(degrees) + 3):
        a = (1 / z - 1) / pole
        log_ratio = bachelier_log_ratio(a) if a > 0 else None
        for w in chebyshev(mp.mpf("0.02"), top**2, 2 * len(degrees) + 1):
            b = mp.sqrt(w)
            value = mp.log(a * b) - log_ratio if log_ratio is not None else mp.log(b / mp.sqrt(2 * mp.pi))
            s = mp.findroot(lambda s, a=a, b=b, value=value: black_log_value(a * b, s) - value, (b, b * mp.mpf("1.02")))
            rows.append([w * z * w**i * z**j for i, j in terms])
            right.append(s / b - 1)
    matrix, target = mp.matrix(rows), mp.matrix(right)
    c = mp.lu_solve(matrix, target)
    out, at = [], 0
    for degree in degrees:
        out.append([c[at + j] for j in range(degree + 1)])
        at += degree + 1
    return out, max(abs(r) for r in matrix * c - target)


def worst(f: Function, g: Function, points: list[mp.mpf]) -> str:
    """Largest relative error of g against f on the points, for the comment in the header."""
    return mp.nstr(max(abs(g(x) / f(x) - 1) for x in points), 2)


def array(name: str, kind: str, values: list[mp.mpf], comment: str) -> str:
    """One constexpr array, constant term first."""
    digits, suffix = (17, "") if kind == "double" else (9, "F")
    numbers = []
    for value in values:
        text = mp.nstr(value, digits, strip_zeros=False, min_fixed=0, max_fixed=0)
        numbers.append(text + suffix)
    body = ",\n    ".join(numbers)
    return f"// {comment}\ninline constexpr {kind} {name}[] = {{\n    {body},\n}};\n"


def split(value: mp.mpf, bits: int) -> tuple[mp.mpf, mp.mpf]:
    """Split value into a head of the given number of bits and the rest."""
    mantissa, exponent = mp.frexp(value)
    head = mp.ldexp(mp.floor(mp.ldexp(mantissa, bits)), int(exponent) - bits)
    return head, value - head


def implied_vol_arrays(half_line: list[mp.mpf]) -> list[str]:
    """What the inversion of prices needs."""
    out = []
    p, q = rational(mills_slope, [4 * (1 + t) / (1 - t) for t in chebyshev(mp.mpf(-1), mp.mpf(1), 23)], 10, 12)
    if min(p + q) <= 0:
        raise ValueError("a coefficient of 1 - a R(a) is not positive: sums would cancel")
    error = worst(mills_slope, lambda z: mp.polyval(p[::-1], z) / mp.polyval(q[::-1], z), half_line)
    note = f"1 - a R(a) = P(a)/Q(a) with Mills' ratio R, a >= 0, relative error {error}; no sum cancels."
    out += [array("mills_slope_p", "double", p, note), array("mills_slope_q", "double", q, "Its Q.")]

    def distances(ratios: list[mp.mpf]) -> dict[mp.mpf, mp.mpf]:
        return {z: bachelier_distance(mp.log(z)) for z in ratios}

    split_at = mp.mpf(12)
    nodes = chebyshev(mp.mpf(0), split_at, 7)
    known = distances(nodes)
    p, q = rational(lambda z: known[z] / z, nodes, 3, 3)
    out.append("// Bachelier's a = m/s from z = m/v, his time value v at the distance m: a = z P(z)/Q(z) to the split.")
    out.append(f"inline constexpr double bachelier_seed_split = {mp.nstr(split_at, 5)};")
    out += [array("bachelier_near_p", "double", p, "Its P."), array("bachelier_near_q", "double", q, "Its Q.")]
    low, high = mp.sqrt(mp.log(split_at)), mp.sqrt(mp.mpf(1500))
    nodes = [low + 4 * (1 + t) / (1 - t + 8 / (high - low)) for t in chebyshev(mp.mpf(-1), mp.mpf(1), 8)]
    far = {z: bachelier_distance(z**2) for z in nodes}
    p, q = rational(lambda z: far[z], nodes, 4, 3)
    checks = [low + (high - low) * (mp.mpf(i) / 60) ** 2 for i in range(61)]
    error = worst(lambda z: bachelier_distance(z**2), lambda z: mp.polyval(p[::-1], z) / mp.polyval(q[::-1], z), checks)
    note = f"Beyond it a = P(z)/Q(z), z = sqrt(ln(m/v)), relative error {error}."
    out += [array("bachelier_far_p", "double", p, note), array("bachelier_far_q", "double", q, "Its Q.")]
    pole, top = mp.mpf("0.7"), mp.mpf("1.72")
    c, left = black_correction(pole, top, (4, 3, 2))
    note = "// Black's s from Bachelier's b: s = b (1 + w z C(z, w)), w = b^2, z = b/(b + pole x)"
    out.append(f"{note}; error {mp.nstr(left, 2)}.")
    out.append(f"inline constexpr double black_seed_pole = {mp.nstr(pole, 5)};")
    out.append(f"inline constexpr double black_seed_top = {mp.nstr(top, 5)};")
    for i, row in enumerate(c):
        out.append(array(f"black_seed_{i}", "double", row, f"C's factor of w^{i}, in powers of z."))
    root = mp.sqrt(mp.mpf(1) / 2)
    c = polynomial(lambda f: mp.log(1 + f) / f, root - 1, 2 * root - 1, 7)
    out.append(array("rough_log", "double", c, "log(1 + f) = f P(f), to 1e-6, for starting values."))
    return out


def header() -> str:
    """Text of the header."""
    mp.mp.dps = 60
    parts = [
        "// Generated by cpp/tools/generate_coefficients.py. Do not edit: change the script and run it.",
        "// clang-format off",
        "#pragma once\n",
        "namespace volscen::coefficients {\n",
    ]
    half_line = [mp.mpf(3) * (1 + t) / (1 - t) for t in mp.linspace(mp.mpf("-0.999"), mp.mpf("0.999"), 301)]
    for kind, degree, centre in (("double", 11, mp.mpf(3)), ("float", 6, mp.mpf(2))):
        p, q = rational_on_half_line(erfcx, degree, centre)
        if min(p + q) <= 0:
            raise ValueError("a coefficient of erfcx is not positive: sums would cancel")
        error = worst(erfcx, lambda z, p=p, q=q: mp.polyval(p[::-1], z) / mp.polyval(q[::-1], z), half_line)
        note = f"erfcx(z) = P(z)/Q(z) on z >= 0, relative error {error}; all positive, so that no sum cancels."
        parts += [array(f"erfcx_p_{kind}", kind, p, note), array(f"erfcx_q_{kind}", kind, q, "Its Q.")]
        if kind == "float":
            parts += [
                array("erfcx_p_rough", "double", p, "The same as doubles."),
                array("erfcx_q_rough", "double", q, "Its Q."),
            ]
    parts += implied_vol_arrays(half_line)
    half_log2 = mp.log(2) / 2 * mp.mpf("1.0001")
    for kind, degree in (("double", 10), ("float", 5)):
        c = polynomial(exp_remainder, -half_log2, half_log2, degree)
        parts.append(array(f"exp_{kind}", kind, c, "exp(r) = 1 + r + r^2 P(r) on |r| <= ln(2)/2."))
    top = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2
    c = polynomial(log_remainder, mp.mpf(0), top, 7)
    parts.append(array("log_double", "double", c, "log((1+s)/(1-s)) = 2s + s^3 P(s^2) on s^2 <= 0.0295."))
    for kind, bits, digits, suffix in (("double", 32, 17, ""), ("float", 11, 9, "F")):
        head, tail = split(mp.log(2), bits)
        parts.append(f"// ln(2) in two parts, the first of {bits} bits: n * head is exact for every exponent n.")
        for name, value in (("ln2_head", head), ("ln2_tail", tail)):
            number = mp.nstr(value, digits + 4, strip_zeros=False, min_fixed=0, max_fixed=0)
            parts.append(f"inline constexpr {kind} {name}_{kind} = {number}{suffix};")
    for name, value in (
        ("log2_e", 1 / mp.log(2)),
        ("sqrt_half", mp.sqrt(mp.mpf(1) / 2)),
        ("inverse_sqrt_two_pi", 1 / mp.sqrt(2 * mp.pi)),
    ):
        number = mp.nstr(value, 20, strip_zeros=False, min_fixed=0, max_fixed=0)
        parts.append(f"inline constexpr double {name} = {number};")
    parts.append("\n}  // namespace volscen::coefficients")
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the header, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when the committed header differs")
    text = header()
    if parser.parse_args().check:
        return int(HEADER.read_text(encoding="utf-8") != text)
    HEADER.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
