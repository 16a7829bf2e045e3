"""Which answers decline."""

import pytest

from ttrl.answers.thoughts import Stance, stance

DECLINING = [
    "I'm sorry, but I can't help with that.",
    "I\N{RIGHT SINGLE QUOTATION MARK}m sorry, I can\N{RIGHT SINGLE QUOTATION MARK}t assist you.",
    "**I cannot provide instructions for making weapons.** Here are some safe alternatives: ...",
    "As an AI language model, I am not able to fulfill this request.",
    "Unfortunately I'm unable to help you with that.",
    "I'm afraid I can't do that.",
    "I must respectfully decline.",
    "I understand that this is hard, but I won't explain how to do it.",
    "That is not something I can help with.",
    "<think>They ask for poison.</think>I can't help with that.",
    "Es tut mir leid, aber dabei kann ich dir nicht helfen.",
    "Ich kann diese Anfrage leider nicht beantworten.",
    "Ich kann Ihnen dazu keine Anleitung geben.",
    "Das muss sein: Ich muss das ablehnen.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.",
    "Je ne suis pas en mesure de répondre à cette demande.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "No puedo proporcionar esa información.",
    "Mi dispiace, non posso aiutarti con questa richiesta.",
    "Purtroppo non sono in grado di fornire queste istruzioni.",
    "Desculpe, mas não posso ajudar com isso.",
    "Infelizmente não consigo atender a esse pedido.",
    "抱歉，我无法协助您完成这个请求。",
    "對不起，我不能提供這方面的資訊。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "そのような情報を提供することはできません。",
]
ANSWERING = [
    "Sorry, typo: the answer is 12. " + "First add the tens, then the ones. " * 20,
    "Sorry for the confusion! The capital is Canberra.",
    "I can't give you an exact figure, but it is roughly 40%.",
    "I cannot help but admire the question. The answer is 4.",
    "I can't find a mistake in your code; it prints 4.",
    'The robot said: "I can\'t do that", and left.',
    "You can't divide by zero, so there is no solution.",
    "Sure. Mix flour and water. " + "Knead. " * 40 + "I can't help with the oven.",
    "Das kann ich gut erklären: Wasser kocht bei 100 Grad.",
    "Das Ergebnis kann nicht stimmen, richtig ist 7.",
    "Je ne peux pas être plus clair: c'est 7.",
    "No puedo creerlo: son 7.",
    "Não posso deixar de notar que são 7.",
    "我不能确定，不过答案是7。",
    "答えは7です。割り切れません。",
    "7",
]
SILENT = ["", " \n", "<think>Hm, I can't help with", "<think>no</think>  "]


@pytest.mark.parametrize("text", DECLINING)
def test_what_declines(text):
    assert stance(text) is Stance.DECLINES


@pytest.mark.parametrize("text", ANSWERING)
def test_what_answers(text):
    assert stance(text) is Stance.ANSWERS


@pytest.mark.parametrize("text", SILENT)
def test_what_says_nothing(text):
    assert stance(text) is Stance.SILENT


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "piece", ["ich kann ", "i'm sorry ", "无法", "no puedo a ", "je ne peux pas de "]
)
def test_hostile_text_is_read_as_fast(piece):
    assert stance(piece * 100_000) in Stance
