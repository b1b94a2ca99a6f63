"""The tool that checks the vectorisation of hot loops tells good loops from bad ones, and the kernels pass it."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "cpp" / "tools" / "check_vectorised.py"
pytestmark = [
    pytest.mark.skipif(not TOOL.exists(), reason="not in a source tree"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="vector widths of x86-64"),
]

WRAPPERS = """
#include <cstddef>
#include <cmath>
using std::size_t;
{body}
void baseline(size_t n, const {type}* x, {type}* out) {{ run(n, x, out); }}
__attribute__((target("avx2,fma"))) void avx2(size_t n, const {type}* x, {type}* out) {{ run(n, x, out); }}
__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))
void avx512(size_t n, const {type}* x, {type}* out) {{ run(n, x, out); }}
"""
LOOP = """
inline __attribute__((always_inline)) void run(size_t n, const double* __restrict x, double* __restrict out) {{
    {tag}
    for (size_t i = 0; i < n; ++i) {{
        {step}
    }}
}}
"""


def verdict(folder: Path, step: str, tag: str = "// hot loop") -> int:
    spec = importlib.util.spec_from_file_location("check_vectorised", TOOL)
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool  # where dataclasses look their module up
    spec.loader.exec_module(tool)
    (folder / "include").mkdir()
    (folder / "src").mkdir()
    (folder / "include" / "loop.hpp").write_text(LOOP.format(tag=tag, step=step))
    (folder / "src" / "loop.cpp").write_text(WRAPPERS.format(body='#include "loop.hpp"', type="double"))
    return tool.main(["--root", str(folder)])


def test_a_loop_that_vectorises_passes(tmp_path, capsys):
    assert verdict(tmp_path, "out[i] = x[i] > 0.0 ? 2.0 * x[i] : x[i] - 1.0;") == 0
    assert "1 of 1 hot loops" in capsys.readouterr().out


@pytest.mark.parametrize(
    "step",
    [
        "out[i] = i > 0 ? out[i - 1] * 0.5 + x[i] : x[i];",  # each step waits for the one before
        "out[i] = std::exp(x[i]);",  # a call
        "double p = 1; for (double y = x[i]; y > 1.0; y /= 3.0) p += y; out[i] = p;",  # an inner loop
    ],
)
def test_a_loop_that_stays_scalar_fails(tmp_path, capsys, step):
    assert verdict(tmp_path, step) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_load_under_a_condition_needs_masks(tmp_path):
    # Without masked loads, as in the baseline, the compiler may not load what the condition guards.
    step = "out[i] = x[i] > 0.0 ? x[i + n] : 0.0;"
    assert verdict(tmp_path, step) == 1
    (tmp_path / "again").mkdir()
    assert verdict(tmp_path / "again", step, tag="// hot loop, not in the baseline") == 0


@pytest.mark.parametrize("tag", ["// hot loops", "// hot loop\n    // another comment"])
def test_a_tag_that_would_be_ignored_is_an_error(tmp_path, tag):
    with pytest.raises(SystemExit, match="tag"):
        verdict(tmp_path, "out[i] = x[i];", tag=tag)


def test_no_tag_at_all_fails(tmp_path):
    assert verdict(tmp_path, "out[i] = x[i];", tag="// plain") == 1
