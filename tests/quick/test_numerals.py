"""Numbers in words, and days."""

import pytest

from ttrl.answers.dates import day
from ttrl.answers.quantities import whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("zero", 0),
        ("twenty-one", 21),
        ("forty two", 42),
        ("a hundred", 100),
        ("one hundred and five", 105),
        ("five hundred thousand", 500_000),
        ("one million two hundred thousand", 1_200_000),
        ("Eins", 1),
        ("einundzwanzig", 21),
        ("dreissig", 30),
        ("zweihundertzwölf", 212),
        ("tausendeinhundert", 1100),
        ("eine Million", 10**6),
        ("十", 10),
        ("五十", 50),
        ("一百零五", 105),
        ("一万二千", 12_000),
        ("三亿", 300_000_000),
        ("", None),
        ("a", None),
        ("and", None),
        ("und", None),
        ("null", None),
        ("one two", None),
        ("twelve one", None),
        ("twenty zero", None),
        ("twenty and five", None),
        ("hundred thousand million", 10**11),
        ("zero hundred", None),
        ("zwanzigeins", None),
        ("一二三", None),
        ("一百二", None),
        ("hundert" * 70, None),
    ],
)
def test_whole_numbers_in_words(text, number):
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("March 4, 2024", "2024-03-04"),
        ("the 3rd of May", "--05-03"),
        ("4. März 2024", "2024-03-04"),
        ("4.3.2024", "2024-03-04"),
        ("2024/03/04", "2024-03-04"),
        ("2024年3月4日", "2024-03-04"),
        ("29 February", "--02-29"),
        ("29 February 2023", None),
        ("Feb 30", None),
        ("3/4/2024", None),
        ("2024-13-01", None),
        ("2024-00-04", None),
        ("0.0.2024", None),
        ("May 2024", None),
        ("March", None),
        ("0 May", None),
    ],
)
def test_days(text, iso):
    assert day(text) == iso
    assert iso is None or day(iso) == iso
