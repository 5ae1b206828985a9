"""`benchmarks.mutations`: every fault still has its place in today's code, and tests that could catch it."""

import pytest

from benchmarks.mutations import FAULTS, Fault
from tests.support.paths import PACKAGE, ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_breaks_one_place_and_names_tests_that_exist(fault: Fault) -> None:
    whole = (PACKAGE / fault.file).read_text(encoding="utf-8")
    assert whole.count(fault.old) == 1
    compile(whole.replace(fault.old, fault.new), fault.file, "exec")
    assert all((ROOT / "tests" / name).exists() for name in fault.tests)
