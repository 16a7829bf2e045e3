"""The table of what is survived is what the tests say."""

from __future__ import annotations

from docs import reliability


def test_the_page_is_that_of_the_tests():
    assert reliability.PAGE.read_text() == reliability.render(reliability.ROOT / "tests"), (
        "run python -m docs.reliability"
    )


def test_a_row_is_read_from_a_mark(tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text(
        '"""It breaks.\n\nMore."""\nimport pytest\n\n'
        '@pytest.mark.fault("it breaks", sees="nothing", keeps="all")\n'
        "def test_it():\n    assert True\n\n\ndef test_other():\n    assert True\n"
    )
    assert list(reliability.rows(file)) == [
        reliability.Row("it breaks", "nothing", "all", "test_it")
    ]
    assert reliability.heading(file) == "It breaks"
