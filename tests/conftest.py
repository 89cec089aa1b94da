"""What every test has at hand."""

pytest_plugins = ("tests.support.machine",)
