from importlib.metadata import version

from tillerman.service.version import VERSION


def test_the_version_is_the_distributions() -> None:
    assert version("tillerman") == VERSION
