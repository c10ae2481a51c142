"""The kernels of narrower processors, compiled here too: held to the same tests as those of this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from mezzotint.denoisers.native.runtime import instructions

HERE = Path(__file__).parent
TESTS = [str(HERE / name) for name in ("test_native_products.py", "test_causal_stores.py", "test_drafters.py")]
SCRIPT = """
import sys
import pytest
from mezzotint.denoisers.native import build

build.FLAGS = tuple("-march=haswell" if flag == "-march=native" else flag for flag in build.FLAGS)
from mezzotint.denoisers.native.runtime import instructions

assert instructions() == "avx2", instructions()
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


@pytest.mark.skipif(instructions() == "avx2", reason="they are this processor's own")
def test_kernels_without_vnni_pass_the_tests_of_the_others():
    done = subprocess.run([sys.executable, "-c", SCRIPT, *TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
