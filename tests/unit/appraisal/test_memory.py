import subprocess
import sys

from service.appraisal.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from service.appraisal.memory import keep_freed_memory
if sys.argv[1] == "keeping":
    assert keep_freed_memory() and keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(5):
    planes = [np.ones(16_000_000, np.uint8) for _ in range(12)]
    del planes
print(faults() - before)
"""


def page_faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True)
    return int(ran.stdout)


def test_memory_that_was_freed_is_used_again_without_the_systems_help():
    kept, returned = page_faults("keeping"), page_faults("as it is")
    assert kept < returned / 2


def test_it_is_silent_where_the_c_library_is_another(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory.cache_clear()
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
