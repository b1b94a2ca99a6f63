"""The compiled module: instruction sets, floating-point state, threads, and its committed stub."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import volscen
from volscen import _core

LEVELS = ("baseline", "avx2", "avx512")
REPOSITORY = Path(__file__).parents[1]

DIGEST = """
import hashlib
import numpy as np
from volscen import _core, american, arbitrage, bachelier, black, ssvi, svi

def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

rng = np.random.default_rng(1)
n = 5003
f = np.exp(rng.normal(4, 1, n))
k = f * np.exp(rng.normal(0, 0.5, n) * rng.choice([1e-6, 1, 10], n))
t, s, c, d = 10 ** rng.uniform(-4, 1, n), 10 ** rng.uniform(-2, 0.5, n), rng.random(n) < 0.5, rng.uniform(0.8, 1, n)
s[::97], t[::89], k[::83] = 0.0, 0.0, np.nan
for greek in (black.price, black.delta, black.gamma, black.vega, black.theta):
    print(greek.__name__, digest(greek(f, k, t, s, c, d)))
print("implied_vol", digest(*black.implied_vol(black.price(f, k, t, s, c, d), f, k, t, c, d)))
x = rng.normal(0, 1, n) * rng.choice([1e-6, 1, 10], n)
beta = np.exp(-np.abs(x) / 2) * 10 ** rng.uniform(-300, 0, n)
print("implied_total_vol", digest(*black.implied_total_vol(beta, x, x > 0)))
normal = bachelier.price(x, 0.1, t, s, c, d)
print("bachelier", digest(normal, *bachelier.implied_vol(normal, x, 0.1, t, c, d)))
terms = t[:500], c[:500], rng.uniform(-0.02, 0.1, 500), rng.uniform(-0.02, 0.1, 500)
early = american.price(f[:500], k[:500], terms[0], s[:500], *terms[1:])
print("american", digest(early, american.early_exercise_premium(f[:500], k[:500], terms[0], s[:500], *terms[1:])))
print("american vol", digest(*american.implied_vol(early, f[:500], k[:500], *terms)))
tau, m = np.linspace(0.1, 1, 7), np.linspace(0.7, 1.3, 11)
vol = np.exp(rng.normal(-1.5, 0.2, (333, 7, 11)))
for dtype in (np.float64, np.float32):
    print("penalty", digest(arbitrage.penalty(vol.astype(dtype), tau, m, parts=True)))
    print("gradient", digest(*arbitrage.penalty_gradient(vol.astype(dtype), tau, m)))
    print("project", digest(*arbitrage.project(vol[:40].astype(dtype), tau, m)))
k = np.sort(rng.normal(0, 0.2, (300, 19)), axis=1)
w = 0.04 * (1 + rng.uniform(0, 3, (300, 1)) * k**2 + 0.1 * k) * np.exp(rng.normal(0, 0.05, k.shape))
fit = svi.fit(k, w)
print("svi", digest(fit.parameters, fit.rmse, fit.status))
fit = svi.fit(k, 1.1 * w, start=fit.parameters)
print("svi, warm", digest(fit.parameters, fit.rmse, fit.status))
for model in ("essvi", "ssvi"):
    fit = ssvi.fit(k.reshape(30, 10, 19), w.reshape(30, 10, 19), model=model)
    print(model, digest(fit.parameters, fit.rmse, fit.status, fit.power_law))
print(_core.simd_level())
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k != "VOLSCEN_SIMD"}, **environment},
    )


def test_every_instruction_set_gives_the_same_bits():
    widest = run("from volscen import _core; print(_core.simd_level())").stdout.strip()
    assert widest in LEVELS
    outputs = []
    for level in LEVELS[: LEVELS.index(widest) + 1]:
        done = run(DIGEST, VOLSCEN_SIMD=level)
        assert done.returncode == 0, done.stderr
        *lines, used = done.stdout.splitlines()
        assert used == level
        assert len(lines) == 20
        outputs.append(lines)
    for other in outputs[1:]:
        assert other == outputs[0]


def test_an_unknown_instruction_set_is_refused():
    done = run("import volscen.black", VOLSCEN_SIMD="sse9")
    assert done.returncode != 0
    assert re.search(r"ImportError: VOLSCEN_SIMD=sse9.*baseline, avx2 or avx512", done.stderr)
    assert run("import volscen.black", VOLSCEN_SIMD="").returncode == 0


def test_importing_and_running_leave_the_floating_point_state_alone():
    code = """
import ctypes.util
import numpy as np
tiny = np.float64(5e-324)
def alive():
    return tiny * np.float64(1) == 5e-324 and np.float64(1e-310) / 2 > 0 and np.float32(1e-45) * np.float32(1) > 0
assert alive()
import volscen
from volscen import arbitrage, black, svi
assert alive()
black.price(100.0, 100.0, 1.0, 0.2, num_threads=2)
black.implied_vol(np.full(10_000, 5e-324), 100.0, 101.0, 1.0, num_threads=2)
arbitrage.penalty_gradient(np.full((8, 10), 0.2), np.linspace(0.1, 1, 8), np.linspace(0.6, 1.4, 10))
svi.fit(np.linspace(-1, 1, 9), np.linspace(0.1, 0.2, 9))
assert alive()
assert np.geterr()["under"] == "ignore"
print("alive")
"""
    done = run(code)
    assert done.stdout.strip() == "alive", done.stderr


def test_other_threads_run_while_a_kernel_works():
    code = """
import threading, time
import numpy as np
from volscen import black
started, finished = threading.Event(), []
def work():
    started.set()
    black.implied_vol(np.full(4_000_000, 7.0), 100.0, 100.0, 1.0)
    finished.append(time.perf_counter())
thread = threading.Thread(target=work)
thread.start()
started.wait()
ticks = []
while thread.is_alive():
    ticks.append(time.perf_counter())
    time.sleep(0.002)
print(sum(tick < finished[0] for tick in ticks))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5


def stub_signatures() -> dict[str, list[str]]:
    tree = ast.parse((Path(volscen.__file__).parent / "_core.pyi").read_text(encoding="utf-8"))
    return {
        node.name: [argument.arg for argument in node.args.args]
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def test_the_stub_names_what_the_module_has():
    functions = {name: value for name, value in vars(_core).items() if not name.startswith("_")}
    stub = stub_signatures()
    assert sorted(functions) == sorted(stub)
    for name, function in functions.items():
        signature = inspect.getdoc(function).splitlines()[0]
        inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
        names = re.findall(r"(\w+): ", inside)
        assert names == stub[name], name


def test_every_kernel_is_documented():
    for name in stub_signatures():
        assert len(inspect.getdoc(getattr(_core, name)).splitlines()) >= 2, name


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("_core.black_price(a, a, a, a, b, a[:2], 1)", ValueError),
        ("_core.black_price(a, a, a, a, b, a, 0)", ValueError),
        ("_core.black_price(a, a, a, a, b, a.astype('f4'), 1)", TypeError),
        ("_core.implied_vol(a, a, a[:1], a, b, a, 1)", ValueError),
        ("_core.implied_total_vol(a, a[:1], b, 1)", ValueError),
        ("_core.bachelier_price(a, a, a, a, b, a[:2], 1)", ValueError),
        ("_core.bachelier_implied_vol(a, a, a, a[:2], b, a, 1)", ValueError),
        ("_core.svi_fit(a, a, a, a, True, 1)", ValueError),
        ("_core.svi_fit(a[None], a[None, :2], a[None], a[:0, None], True, 1)", ValueError),
        ("_core.svi_fit(a[None], a[None], a[None], a[None, :4], True, 1)", ValueError),
        ("_core.ssvi_fit(a[None], a[None], a[None], True, 1)", ValueError),
        ("_core.ssvi_fit(a[None, None], a[None, None], a[None, None, :2], True, 1)", ValueError),
        ("_core.arbitrage_penalty_double(a[None, None], a, a, False, 1)", ValueError),
        ("_core.arbitrage_penalty_double(a, a, a, False, 1)", ValueError),
        ("_core.arbitrage_pullback_double(a[None, None], a[:1], a, a[None], 1, 1)", TypeError),
        ("_core.arbitrage_pullback_double(a[None, None], a[:1], a, a[None, :2], 1)", ValueError),
    ],
)
def test_the_module_itself_refuses_shapes_it_cannot_read(call, error):
    import numpy as np

    names = {"_core": _core, "a": np.ones(3), "b": np.ones(3, bool)}
    with pytest.raises(error):
        eval(call, names)


def test_generated_constants_are_current():
    script = REPOSITORY / "cpp" / "tools" / "generate_coefficients.py"
    if not script.exists():
        pytest.skip("not in a source tree")
    assert subprocess.run([sys.executable, str(script), "--check"]).returncode == 0
