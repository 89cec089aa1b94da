"""What every test has at hand; each part says in its own module what it is."""

pytest_plugins = (
    "tests.support.machine",
    "tests.support.leaks",
    "tests.support.loops",
    "tests.support.valkey",
    "tests.support.platform",
    "tests.support.shells",
)
