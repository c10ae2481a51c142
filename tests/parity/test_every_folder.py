"""No recorded folder lies unread."""

import pytest
from recorded import ROOT, claimed, folders


@pytest.mark.parametrize("name", folders())
def test_a_folder_is_read_by_some_test(name):
    assert name in claimed(), f"{ROOT / name} is read by no test: mark one with @pytest.mark.golden({name!r})"
