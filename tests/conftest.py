"""What every test has at hand; each part says in its own module what it is."""

from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes says more of the machine than of what is tested

pytest_plugins = (
    "tests.support.machine",
    "tests.support.leaks",
    "tests.support.loops",
    "tests.support.valkey",
    "tests.support.slots",
    "tests.support.valkey_cluster",
    "tests.support.replication",
    "tests.support.platform",
    "tests.support.shells",
)
