"""What must not differ between two texts that say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.meaning.marks import conflict, read

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
    ],
)
def test_cannot_be_the_same(one, other):
    assert differ(one, other)
    assert differ(other, one)


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


@pytest.mark.parametrize("text", ["9" * 5000, "thousand " * 500, "\u1369 and \u0663", "1.2.3,4"])
def test_no_number_is_too_much(text):
    (found,) = read([text])
    assert found.numbers or text[0] == "\u1369"
