import pytest

# Fixtures by topic import each other before pytest takes them for plugins.
pytest.register_assert_rewrite("tests.support")
