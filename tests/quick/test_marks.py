"""What must not differ between two texts that say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.meaning.differences import conflict, difference, read

Q = "What do Anna and Ben do with the RX-200 after 30 days?"


def differ(one, other, question=Q, *, close=True):
    asked, first, second = read([question, one, other], question)
    return conflict(first, second, asked, close=close)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It takes 3 days.", "It takes three days."),
        ("It costs 1,500 dollars.", "1500 dollars is what it costs."),
        ("Heat it to 80 °C.", "It is heated to 80 degrees Celsius."),
        ("Wait twenty-five minutes.", "Wait 25 minutes."),
        ("They wait 30 days.", "They wait."),
        ("They wait 14 days.", "14"),
        ("Anna sends it back.", "It is sent back by Anna."),
        ("It isn't allowed.", "It is not allowed."),
        ("No, it is not covered.", "It is not covered."),
        ("You cannot do it without a key.", "You can do it with a key."),
        ("请等三天。", "需要等3天。"),
        ("不可以退货。", "这件商品不能退。"),
        ("Es dauert drei Tage.", "Drei Tage dauert es."),
        ("Store it at -20 °C.", "Store it at minus twenty degrees Celsius."),
        ("Store it at −20 °C.", "Bei –20 °C."),
        ("Keep it at 10-12 °C.", "Keep it at 10 to 12 °C."),
        ("It pays 5 €-7 €.", "It pays 5 to 7 €."),
        ("It ran 2020-2024.", "It ran from 2020 to 2024."),
        ("10 minus 5 is asked.", "10 - 5 is asked."),
        ("The 14-day limit holds.", "It holds for 14 days."),
        ("The fee is $5.", "The fee is 5 dollars."),
        ("It costs 5 million euros.", "It costs €5,000,000."),
        ("It takes two hundred thousand and five.", "It takes 200,005."),
        ("Es sind 21 Tage.", "Es sind einundzwanzig Tage."),
        ("Es kostet 5 Millionen Euro.", "Es kostet fünf Millionen Euro."),
        ("It was in nineteen fifty-five.", "It was in 1955."),
        ("It is Anna's.", "It belongs to Anna."),
        ("It is on the second floor.", "It is on the 2nd floor."),
        ("It is one tenth of it.", "It is one tenth."),
        ("Wait a second.", "Wait."),
        ("温度是零下五度。", "温度是-5度。"),
        ("一共二十万元。", "一共20万元。"),
        ("增加百分之五。", "增加5%。"),
        ("It is illegal.", "It is not legal."),
        ("Die Garantie gilt nicht.", "Die Garantie gilt nicht mehr."),
        ("Wir liefern am Samstag nicht.", "Am Samstag liefern wir nicht."),
        ("It says whether it fits or not.", "It says whether it fits."),
        ("Latex breaks and nitrile doesn't.", "Nitrile holds and latex breaks."),
    ],
)
def test_may_be_the_same(one, other):
    assert not differ(one, other)
    assert not differ(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It takes 3 days.", "It takes 4 days."),
        ("It takes 3 days.", "It takes 3 weeks."),
        ("It takes 3 days.", "It takes a few days."),
        ("Heat it to 80 °C.", "Heat it to 80 °F."),
        ("It costs 5 km.", "It costs 5km and 3 m."),
        ("Use 2 of 5.", "Use 5 of 2."),
        ("Anna pays Ben.", "Ben pays Anna."),
        ("She asks Anna.", "She asks Clara."),
        ("Take the RX-200.", "Take the RX-300."),
        ("It is covered.", "It is not covered."),
        ("It's covered.", "It's never covered."),
        ("Yes.", "No."),
        ("Open it before you call.", "Open it after you call."),
        ("The pressure rises.", "The pressure falls."),
        ("可以退货。", "不可以退货。"),
        ("等三天。", "等五天。"),
        ("先开再等,温度上升。", "先开再等,温度下降。"),
        ("Es ist erlaubt.", "Es ist nicht erlaubt."),
        ("Der Druck steigt.", "Der Druck sinkt."),
        ("Store it at -20 °C.", "Store it at 20 °C."),
        ("Die Kühlung hält –20 °C.", "Die Kühlung hält 20 °C."),
        ("It is minus five degrees.", "It is five degrees."),
        ("The fee is $5.", "The fee is €5."),
        ("The fee is 5 $.", "The fee is 5%."),
        ("You owe -$5.", "You owe $5."),
        ("It costs 5 million euros.", "It costs 5 billion euros."),
        ("It costs a million.", "It costs a billion."),
        ("The dose is 5 µg.", "The dose is 5 mg."),
        ("It is the second floor.", "It is the third floor."),
        ("It is the 5th floor.", "It is the 6th floor."),
        ("im zweiten Stock", "im dritten Stock"),
        ("zweiundzwanzig Tage", "zweiunddreißig Tage"),
        ("温度是零下五度。", "温度是五度。"),
        ("一定要等三天。", "一定要等五天。"),
        ("要20万元。", "要20亿元。"),
        ("She can return it, as it is new.", "She cannot return it, for it has been opened."),
        ("Die Garantie gilt.", "Die Garantie gilt nicht."),
        ("Wir liefern am Samstag.", "Wir liefern am Samstag nicht."),
        ("Es kostet etwas.", "Es kostet nichts."),
        ("It is no longer covered.", "It is covered."),
        ("It works.", "It works never."),
        ("It does.", "It does not."),
        ("You can.", "You can not."),
        ("It fits, so the answer is no.", "It fits, so the answer is yes."),
    ],
)
def test_cannot_be_the_same(one, other):
    assert differ(one, other) or difference(one, other).tells
    assert differ(other, one) or difference(other, one).tells


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna pays Ben.", "Ben is paid by Anna."),
        ("Use 2 of the 5.", "Of the 5 use 2."),
        ("Open it before you call.", "Call after you have opened it."),
    ],
)
def test_order_and_opposites_tell_only_in_close_texts(one, other):
    assert not differ(one, other, close=False)


@given(st.text())
def test_any_text_can_be_read(text):
    read([text, f"{text} 3"], text)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000,
        "thousand " * 500,
        "hundert" * 500,
        "achtzehn" * 500 + "x 3",
        "百" * 5000,
        "\u1369 and \u0663",
        "1.2.3,4",
    ],
)
def test_no_number_is_too_much(text):
    read([text])
