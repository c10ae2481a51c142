"""The kernels of narrower processors, compiled here too: held to the same tests as those of this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from mezzotint.denoisers.native.build import _processor_flags
from mezzotint.denoisers.native.runtime import instructions

HERE = Path(__file__).parent
TESTS = [str(HERE / name) for name in ("test_native_products.py", "test_causal_stores.py", "test_drafters.py")]
SCRIPT = """
import sys
import pytest
from mezzotint.denoisers.native import build

architecture, told, *tests = sys.argv[1:]
build.FLAGS = tuple(f"-march={architecture}" if flag == "-march=native" else flag for flag in build.FLAGS)
from mezzotint.denoisers.native.runtime import instructions

assert instructions() == told, instructions()
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *tests]))
"""


@pytest.mark.parametrize(
    ("architecture", "told", "flag"), [("haswell", "avx2", "avx2"), ("alderlake", "avx2+vnni", "avx_vnni")]
)
def test_kernels_of_narrower_processors_pass_the_tests_of_the_others(architecture, told, flag):
    if instructions() == told:
        pytest.skip("they are this processor's own")
    if flag not in _processor_flags().split():
        pytest.skip("this processor cannot run them")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, architecture, told, *TESTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
